"""What the hospital would connect to, as runnable sandboxes with real protocols."""
