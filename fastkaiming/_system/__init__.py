"""The CPUs and the memory that the process may use."""
