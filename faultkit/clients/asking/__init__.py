"""Programs that ask as a library does, each in a process of its own, because what it says when it dies is what is wanted."""
