"""Episodes as pictures: they are played, drawn as frames and written as a GIF or a video."""
