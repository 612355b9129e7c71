"""The instructor's board: who works on what, who is stuck, and what the class is told."""
