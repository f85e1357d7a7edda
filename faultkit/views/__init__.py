"""What a person or a program is shown, drawn from the transcript alone. A view opens no socket."""
