"""What is wrong with this installation, and the command that mends it. Each check asks one part and gives findings."""
