"""How the demo's page looks: its theme, and the style and the script that lie beside this file."""

from pathlib import Path
from typing import Any

import gradio as gr

__all__ = ["page_style"]

STATIC = Path(__file__).resolve().parent / "static"
SYSTEM = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica", "Arial", "sans-serif"]
MONOSPACE = ["ui-monospace", "Consolas", "Menlo", "monospace"]
# A text's contrast to its ground is at least 4.5, a control's border at least 3 (WCAG 2.1);
# gradio's Soft theme has less in these places.
CONTRAST = {
    "block_label_text_color": "*primary_800",
    "block_title_text_color": "*primary_800",
    "body_text_color_subdued": "*neutral_600",
    "body_text_color_subdued_dark": "*neutral_300",
    "block_info_text_color": "*neutral_600",
    "block_info_text_color_dark": "*neutral_300",
    "input_placeholder_color": "*neutral_500",
    "input_placeholder_color_dark": "*neutral_300",
    "button_primary_background_fill": "*primary_600",
    "button_primary_background_fill_dark": "*primary_600",
    "button_primary_background_fill_hover": "*primary_700",
    "button_primary_background_fill_hover_dark": "*primary_700",
    "checkbox_border_color": "*neutral_500",
    "checkbox_border_color_dark": "*neutral_400",
    "checkbox_label_background_fill_selected": "*primary_600",
}


def page_style() -> dict[str, Any]:
    """Arguments of `gr.Blocks.launch`: theme, CSS and what goes into the page's head.

    The fonts are the system's: nothing is fetched, and text appears at once.
    """
    theme = gr.themes.Soft(font=SYSTEM, font_mono=MONOSPACE).set(**CONTRAST)
    style, present, script = (
        (STATIC / name).read_text(encoding="utf-8")
        for name in ("page.css", "present.css", "page.js")
    )
    head = f"<style>\n{present}</style>\n<script>\n{script}</script>"
    return {"theme": theme, "css": style, "head": head}
