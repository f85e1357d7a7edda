"""What the two halves of a cause act with: a play, its cues, its notes, its scenery, and ends that are processes of their own."""
