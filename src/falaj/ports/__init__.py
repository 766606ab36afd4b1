"""The sockets: what falaj needs from outside, one small protocol a file."""
