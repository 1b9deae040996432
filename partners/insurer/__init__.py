"""The Beijing medical insurance interface for online decomposition, as a runnable sandbox."""
