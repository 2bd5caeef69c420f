"""Tests that break things: signals, killed processes, full disks, deadlines that fall at the worst moment."""
