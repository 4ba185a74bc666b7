"""Where the tools of executors are looked for, unless the command line's PATH is given."""

from __future__ import annotations

TOOLS = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
