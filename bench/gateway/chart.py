"""The main figure as an SVG for the README, in both of its languages."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from xml.sax.saxutils import escape

from bench.gateway.measure import Result

_WIDTH, _LEFT, _RIGHT, _TOP, _ROW, _BAR = 760, 196, 96, 62, 46, 20
_OURS, _SAME, _BARE = "#c2410c", "#64748b", "#cbd5e1"
_FONT = "font-family='system-ui,-apple-system,Segoe UI,PingFang SC,Noto Sans CJK SC,sans-serif'"
_WORDS = {
    "en": {
        "title": "Requests per second through one gateway on one core",
        "note": "Same nginx behind each, GET with a bearer token, 32 connections, median of {rounds}",
        "rounds": ("one round", "{n} rounds"),
    },
    "zh": {
        "title": "单核网关每秒转发的请求数",
        "note": "同一 nginx 上游，带令牌的 GET，32 个连接，{rounds}",
        "rounds": ("一轮", "{n} 轮的中位数"),
    },
}
_FEATURES = {
    "only forwards": "只转发",
    "token": "令牌",
    "revocation": "吊销",
    "tenant": "租户",
    "rate limit": "限流",
    "JSON log": "JSON 日志",
    "metrics": "指标",
}


def write(results: Mapping[str, Result], folder: Path) -> list[Path]:
    """``gateway.svg`` and ``gateway.zh-CN.svg``."""
    paths = folder / "gateway.svg", folder / "gateway.zh-CN.svg"
    for path, language in zip(paths, ("en", "zh"), strict=True):
        path.write_text(draw(list(results.values()), language))
    return list(paths)


def draw(results: list[Result], language: str) -> str:
    results = sorted(results, key=lambda one: -one.rate())
    words = _WORDS[language]
    count = len(results[0].rounds)
    rounds = str(words["rounds"][0 if count == 1 else 1]).format(n=count)
    height = _TOP + _ROW * len(results) + 14
    scale = (_WIDTH - _LEFT - _RIGHT) / max(one.rate() for one in results)
    rows = "".join(_row(one, _TOP + _ROW * n, scale, language) for n, one in enumerate(results))
    title = escape(str(words["title"]))
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {_WIDTH} {height}' width='{_WIDTH}' "
        f"height='{height}' role='img' aria-label='{title}' {_FONT}>\n"
        f"<rect width='{_WIDTH}' height='{height}' rx='8' fill='#ffffff'/>\n"
        f"<text x='20' y='30' font-size='17' font-weight='600' fill='#0f172a'>{title}</text>\n"
        f"<text x='20' y='50' font-size='12' fill='#475569'>"
        f"{escape(str(words['note']).format(rounds=rounds))}</text>\n"
        f"{rows}</svg>\n"
    )


def _row(result: Result, top: float, scale: float, language: str) -> str:
    """Name and bar; the features below them, small."""
    ours, bare = result.key == "yuanlian", result.features == "only forwards"
    colour = _OURS if ours else _BARE if bare else _SAME
    features = result.features
    if language == "zh":
        features = "、".join(_FEATURES[one] for one in features.split(", "))
    width = max(1.0, result.rate() * scale)
    weight = "600" if ours else "400"
    middle = top + _BAR / 2 + 4
    return (
        f"<text x='{_LEFT - 10}' y='{middle:.0f}' font-size='14' font-weight='{weight}' fill='#0f172a' "
        f"text-anchor='end'>{escape(result.name)}</text>\n"
        f"<rect x='{_LEFT}' y='{top:.0f}' width='{width:.1f}' height='{_BAR}' rx='3' fill='{colour}'/>\n"
        f"<text x='{_LEFT + width + 8:.1f}' y='{middle:.0f}' font-size='13' font-weight='{weight}' "
        f"fill='#0f172a'>{result.rate():,.0f}</text>\n"
        f"<text x='{_LEFT}' y='{top + _BAR + 14:.0f}' font-size='11' fill='#475569'>"
        f"{escape(features)}</text>\n"
    )
