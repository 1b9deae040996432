"""What the pharmacy decides: pure functions of commands, events and the time, without a database or a network."""
