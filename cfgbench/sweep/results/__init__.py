"""What the results folder holds, and how it is written so that no crash loses or spoils it."""
