"""What heads are made of: factors, parts, directions, and what they write on a picture."""
