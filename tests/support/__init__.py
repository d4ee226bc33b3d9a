"""What several test modules share: toy data and encoders, servers on loopback, the command as a program."""
