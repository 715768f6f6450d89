"""What the process may use of the machine: CPUs and memory."""
