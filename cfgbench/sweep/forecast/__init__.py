"""What a sweep will cost: operations, time, disk."""
