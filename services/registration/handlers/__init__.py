"""Load → decide → append. Partners and other services are asked before a write, never inside one."""
