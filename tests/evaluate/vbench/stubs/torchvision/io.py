"""`write_video`, by PyAV."""

from typing import Any

import av


def write_video(filename: str, video_array: Any, fps: int) -> None:
  frames = video_array.numpy().astype("uint8")
  with av.open(filename, "w") as file:
    stream = file.add_stream("libx264", rate=fps, options={"crf": "0"})
    stream.height, stream.width = frames.shape[1:3]
    stream.pix_fmt = "yuv444p"
    for frame in frames:
      file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
    file.mux(stream.encode())
