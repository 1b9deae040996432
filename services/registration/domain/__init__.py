"""The rules of registration: pure functions over own events. Time, ids and what others know come in as arguments."""
