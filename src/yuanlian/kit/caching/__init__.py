"""What was expensive to find out, kept for a while: in this process and for all of them."""
