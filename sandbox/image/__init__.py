"""What goes into the agent image and what is run in it to see that it cannot get out."""
