"""Draws docs/architecture.svg, the picture of docs/models.md: python docs/architecture_figure.py"""

from __future__ import annotations

from pathlib import Path

BLUE, RED, GREY, PALE, INK = "#cfe4f3", "#f9d9c6", "#e3e6ea", "#f6f7f9", "#222222"
NEURON, WEIGHT, ANALOGUE, STATE = RED, BLUE, GREY, "#f5ecc4"
WIDTH, HEIGHT = 920, 560


def box(x: float, y: float, w: float, h: float, text: str, fill: str, size: int = 14) -> str:
    """A rounded box with centred lines of text; `x`, `y` is its top left corner."""
    lines = text.split("\n")
    first = y + h / 2 - (len(lines) - 1) * size * 0.62 + size * 0.36
    spans = "".join(
        f'<text x="{x + w / 2}" y="{first + i * size * 1.24:.1f}" text-anchor="middle" font-size="{size}">{line}</text>'
        for i, line in enumerate(lines)
    )
    return f'<rect x="{x}" y="{y}" width="{w}" height="{h}" rx="6" fill="{fill}" stroke="#8a8f98"/>{spans}'


def arrow(*points: tuple[float, float]) -> str:
    """A line through the points with a head at its end."""
    path = " ".join(f"{x},{y}" for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{INK}" stroke-width="1.4" marker-end="url(#head)"/>'


def label(x: float, y: float, text: str, size: int = 13, anchor: str = "middle", weight: str = "normal") -> str:
    """One line of text."""
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" font-size="{size}" font-weight="{weight}">{text}</text>'


def plus(x: float, y: float) -> str:
    """The sum of a residual branch."""
    return f'<circle cx="{x}" cy="{y}" r="10" fill="white" stroke="{INK}"/>{label(x, y + 5, "+", 16)}'


def column(
    x: float, bottom: float, parts: list[tuple[str, str]], w: float = 150, h: float = 34, gap: float = 14
) -> str:
    """Boxes on top of each other, joined by arrows, the first at the bottom."""
    drawn, y = [], bottom
    for i, (text, fill) in enumerate(parts):
        drawn.append(box(x - w / 2, y - h, w, h, text, fill))
        if i + 1 < len(parts):
            drawn.append(arrow((x, y - h), (x, y - h - gap + 2)))
        y -= h + gap
    return "".join(drawn)


def model() -> str:
    """The whole model: tokens, embedding, blocks, head."""
    x = 190
    tokens = ["R₁", "s₁", "a₁", "R₂", "s₂", "a₂", "…", "R_K", "s_K"]
    drawn = [label(x, 30, "The model", 17, weight="bold")]
    for i, token in enumerate(tokens):
        base, _, index = token.partition("_")
        text = f'{base}<tspan font-size="10" dy="3">{index}</tspan>' if index else base
        fill = STATE if base[0] == "s" else PALE
        drawn.append(box(20 + i * 38, 470, 34, 34, text, fill if token != "…" else "none"))
    drawn.append(label(x, 528, "return-to-go, state, action of the last K environment steps"))
    drawn += [arrow((x, 470), (x, 446))]
    parts = [
        ("linear maps + position + layer norm", ANALOGUE),
        ("block 1", PALE),
        ("block 2 … N", PALE),
        ("layer norm", ANALOGUE),
        ("linear head", ANALOGUE),
    ]
    drawn.append(column(x, 444, parts, w=270, h=42, gap=22))
    drawn += [arrow((x, 146), (x, 108)), label(x, 98, "action or logits, read from each state token s")]
    drawn.append(label(x, 72, "a prediction sees R and s up to its step, and a before it", 12))
    return "".join(drawn)


def block() -> str:
    """One block of snn_dt: attention and MLP, every weight matrix fed by spikes."""
    x, top = 760, 62
    drawn = [label(530, 30, "One block of snn_dt", 17, weight="bold")]
    drawn.append(f'<rect x="400" y="44" width="500" height="440" rx="10" fill="{PALE}" stroke="#c3c7cd"/>')
    left = 530
    # attention
    drawn.append(column(left, 470, [("LIF", NEURON)], w=200))
    for i, name in enumerate(("query", "key", "value")):
        cx = 460 + i * 70
        drawn += [
            arrow((left, 436), (left, 428), (cx, 428), (cx, 416)),
            box(cx - 31, 382, 62, 34, f"W {name}", WEIGHT, 12),
        ]
        drawn += [arrow((cx, 382), (cx, 370)), box(cx - 31, 336, 62, 34, "LIF", NEURON, 12)]
        drawn.append(arrow((cx, 336), (cx, 318)))
    drawn.append(box(left - 101, 276, 202, 42, "softmax attention, causal,\non spike counts", ANALOGUE, 12))
    drawn += [
        arrow((left, 276), (left, 262)),
        box(left - 101, 228, 202, 34, "dendritic routing (option)", ANALOGUE, 12),
    ]
    drawn += [arrow((left, 228), (left, 214)), column(left, 214, [("LIF", NEURON), ("W out", WEIGHT)], w=200)]
    drawn += [arrow((left, 132), (left, 112)), plus(left, 102)]
    drawn += [arrow((left, 498), (left, 472)), arrow((left, 488), (412, 488), (412, 102), (left - 12, 102))]
    # MLP
    drawn += [arrow((left + 10, 102), (648, 102), (648, 440), (x, 440), (x, 422))]
    parts = [("LIF", NEURON), ("W 4D × D", WEIGHT), ("LIF", NEURON), ("W D × 4D", WEIGHT)]
    drawn.append(column(x, 420, parts, w=180, gap=26))
    drawn += [arrow((x, 206), (x, 150)), plus(x, 140)]
    drawn += [arrow((648, 140), (x - 12, 140)), arrow((x, 130), (x, top - 30))]
    drawn.append(label(x + 14, 38, "to the next block", 12, "start"))
    drawn.append(label(left + 10, 512, "from the block before", 12, "start"))
    drawn.append(label(x + 8, 462, "a layer norm precedes each LIF", 12))
    return "".join(drawn)


def legend() -> str:
    """What the colours mean."""
    items = [(WEIGHT, "weight matrix, fed by spikes"), (NEURON, "neurons: T steps"), (ANALOGUE, "analogue arithmetic")]
    drawn = []
    for i, (fill, text) in enumerate(items):
        x = 330 + i * 205
        drawn.append(f'<rect x="{x}" y="532" width="18" height="14" rx="3" fill="{fill}" stroke="#8a8f98"/>')
        drawn.append(label(x + 24, 544, text, 12, "start"))
    return "".join(drawn)


def main() -> None:
    """Write the picture beside this script."""
    head = '<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'font-family="Helvetica, Arial, sans-serif" fill="{INK}">'
        f'<defs>{head}<path d="M0 0 L8 4 L0 8 z" fill="{INK}"/></marker></defs>'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>{model()}{block()}{legend()}</svg>\n'
    )
    (Path(__file__).parent / "architecture.svg").write_text(svg.replace("><", ">\n<"))


if __name__ == "__main__":
    main()
