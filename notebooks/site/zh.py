"""A Chinese page is Chinese all around, too: its margin, its buttons, and what comes before and after it."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path

MARGIN = "margin_zh.json"  # gather.py writes it: captions, each with its pages and their titles
BUTTONS = {
    "Search": "搜索",
    "Skip to content": "跳到正文",
    "Back to top": "回到顶部",
    "On this page": "本页内容",
    "Contents": "目录",
    "Next": "下一页",
    "Previous": "上一页",
    "Home": "首页",
}
SET_UP = {"code_prompt_show": "显示准备代码，各章都一样", "code_prompt_hide": "收起准备代码"}


def is_chinese(page: str) -> bool:
    return page.endswith("_zh")


def translated(text: str) -> str:
    return BUTTONS.get(text.strip(), text)


def speak(app, page, _template, context, _doctree):
    """Changes what the theme knows of a Chinese page."""
    if not is_chinese(page):
        return
    margin = json.loads(Path(app.srcdir, MARGIN).read_text("utf-8"))

    def address(target: str) -> str:
        return "#" if target == page else app.builder.get_relative_uri(page, target)

    context["language"] = "zh-CN"
    context["_"] = context["gettext"] = translated
    if "index_zh" in app.env.found_docs:
        context["master_doc"] = "index_zh"  # where the title above the margin leads
    context["furo_navigation_tree"] = tree(margin, page, address)
    order = [named for _, pages in margin for named in pages]
    here = [target for target, _ in order].index(page)
    for name, number in (("prev", here - 1), ("next", here + 1)):
        there = order[number] if 0 <= number < len(order) else None
        context[name] = there and {"link": address(there[0]), "title": escape(there[1])}


def tree(margin: list, page: str, address) -> str:
    """The margin as the theme lays out its own."""
    parts = []
    for caption, pages in margin:
        parts.append(f'<p class="caption" role="heading"><span>{caption}</span></p>\n<ul>')
        for target, title in pages:
            here = " current current-page" if target == page else ""
            link = f'<a class="reference internal" href="{address(target)}">{escape(title)}</a>'
            parts.append(f'<li class="toctree-l1{here}">{link}</li>')
        parts.append("</ul>")
    return "\n".join(parts)


def outdated(_app, env, _added, _changed, _removed):
    """The margin may have changed where the page has not."""
    return [page for page in env.found_docs if is_chinese(page)]
