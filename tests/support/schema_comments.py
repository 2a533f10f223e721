"""The comments of the database's views and columns, from docs/schema.md. Run it to write store/comments.sql anew."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs" / "schema.md"
SQL = ROOT / "lm_eval_attrib" / "store" / "comments.sql"


def documented() -> dict[str, tuple[str, dict[str, tuple[str, str]]]]:
    """View → what it holds, and column → (type, meaning)."""
    found = {}
    for section in re.split(r"^## ", DOCS.read_text("utf-8"), flags=re.MULTILINE)[1:]:
        name, _, text = section.partition("\n")
        rows = re.findall(r"^\| `(\w+)` \| ([\w\[\]]+) \| (.+) \|$", text, flags=re.MULTILINE)
        if rows:
            found[name] = (" ".join(text.partition("\n|")[0].split()), {column: (kind, said) for column, kind, said in rows})
    return found


def comments() -> str:
    """``COMMENT ON`` for every view and column."""
    lines = ["-- What docs/schema.md says of each view and column; written by tests/support/schema_comments.py.", ""]
    for view, (said, columns) in documented().items():
        lines.append(f"COMMENT ON VIEW {view} IS {_quoted(said)};")
        lines += [f'COMMENT ON COLUMN {view}."{name}" IS {_quoted(meaning)};' for name, (_, meaning) in columns.items()]
        lines.append("")
    return "\n".join(lines)


def _quoted(text: str) -> str:
    return "'" + text.replace("`", "").replace("'", "''") + "'"


if __name__ == "__main__":
    SQL.write_text(comments(), encoding="utf-8")
