"""gunicorn's logs without secrets: addresses in the access log, requests and tracebacks in the error log."""

from typing import Any

from gunicorn.glogging import Logger

from accounts.masking import MaskedFormatter, MaskingFormatter


class MaskingLogger(Logger):  # type: ignore[misc]
    """gunicorn's own logger, with every handler's lines masked, whatever configuration the handlers come from."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        for handler in [*self.error_log.handlers, *self.access_log.handlers]:
            if not isinstance(handler.formatter, MaskingFormatter):
                handler.setFormatter(MaskedFormatter(handler.formatter))
