"""Ways to serve a version other than the shipped one."""
