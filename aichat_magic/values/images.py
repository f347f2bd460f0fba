"""Images made of values: of figures, pictures, or the bytes of an image file."""

from __future__ import annotations

import base64
import io
import re
from typing import Any

from ..core.messages import Image
from .types import has_method, is_instance_of

# In pixels. Providers shrink larger pictures themselves, or refuse them.
_MAX_PIXELS = 1_568
_MAGIC_BYTES = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "image/png"),
    (re.compile(rb"\xff\xd8\xff"), "image/jpeg"),
    (re.compile(rb"GIF8[79]a"), "image/gif"),
    (re.compile(rb"RIFF.{4}WEBP", re.DOTALL), "image/webp"),
)


def media_type_of(data: bytes) -> str:
    """Return the media type of an image, recognized by its first bytes; empty for everything else."""
    return next((kind for pattern, kind in _MAGIC_BYTES if pattern.match(data)), "")


def image_of(value: Any) -> Image | None:
    """Convert a figure, a picture or the bytes of an image file to an image; return None for everything else."""
    if isinstance(value, (bytes, bytearray)):
        kind = media_type_of(bytes(value[:16]))
        return Image(kind, bytes(value)) if kind else None
    if is_instance_of(value, "matplotlib", "Axes", "_AxesBase", "SubFigure"):
        return image_of(value.figure)
    if has_method(value, "savefig"):
        return _drawn(value)
    if is_instance_of(value, "PIL", "Image"):
        return _picture(value)
    for method in ("_repr_png_", "_repr_jpeg_"):
        if has_method(value, method):
            result = getattr(value, method)()
            data = result[0] if isinstance(result, tuple) and result else result
            if isinstance(data, str):
                data = base64.b64decode(data)
            if isinstance(data, bytes) and (kind := media_type_of(data)):
                return Image(kind, data)
    return None


def _drawn(figure: Any) -> Image:
    """Draw a figure of matplotlib, or of a library based on it, as PNG."""
    buffer = io.BytesIO()
    inches = figure.get_size_inches() if has_method(figure, "get_size_inches") else (6.0, 4.0)
    figure.savefig(buffer, format="png", dpi=min(100.0, _MAX_PIXELS / max(*inches, 1.0)))
    return Image("image/png", buffer.getvalue())


def _picture(picture: Any) -> Image:
    """Convert a picture of Pillow to PNG, and shrink it if it is large."""
    buffer = io.BytesIO()
    if max(picture.size) > _MAX_PIXELS:
        picture = picture.copy()
        picture.thumbnail((_MAX_PIXELS, _MAX_PIXELS))
    if picture.mode not in ("1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16"):
        picture = picture.convert("RGB")
    picture.save(buffer, format="PNG")
    return Image("image/png", buffer.getvalue())
