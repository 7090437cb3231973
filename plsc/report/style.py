"""Style sheet of a report, for narrow and wide screens, light and dark; color palette of Okabe and Ito."""

STYLE = """
:root { --page: #fbfaf8; --card: #fff; --text: #1c2024; --soft: #646b73; --rule: #e3e1dc; --grid: #ecebe7;
  --c0: #0072b2; --c1: #d55e00; --c2: #009e73; --c3: #cc79a7; --c4: #e69f00; --c5: #56b4e9; --c6: #5b5b5b;
  --right: #0072b2; --wrong: #d55e00; --on: #fff; color-scheme: light dark; }
@media (prefers-color-scheme: dark) { :root { --page: #14171a; --card: #1c2024; --text: #e8e6e1; --soft: #9aa2aa;
  --rule: #31373d; --grid: #2a3036; --c0: #4ba3d9; --c1: #ee7f31; --c2: #22b98d; --c3: #dd93bb; --c4: #f0b429;
  --c5: #7cc7f2; --c6: #b3b3b3; --right: #3c97d0; --wrong: #ee7f31; --on: #0d0f11; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 32px 20px 64px; }
h1 { font-size: clamp(26px, 5vw, 38px); line-height: 1.15; letter-spacing: -.02em; margin: 0 0 6px;
  overflow-wrap: anywhere; }
h2 { font-size: 22px; letter-spacing: -.01em; margin: 52px 0 4px; overflow-wrap: anywhere; }
h3 { font-size: 16px; margin: 0 0 8px; font-weight: 600; overflow-wrap: anywhere; }
p { margin: 4px 0 14px; max-width: 72ch; overflow-wrap: anywhere; }
.soft, figcaption { color: var(--soft); }
nav { display: flex; flex-wrap: wrap; gap: 4px 18px; margin: 18px 0 0; font-size: 15px; }
a { color: var(--c0); text-decoration: none; } a:hover { text-decoration: underline; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(158px, 1fr)); gap: 12px; margin: 26px 0 8px; }
.cards > div, .card { background: var(--card); border: 1px solid var(--rule); border-radius: 10px; padding: 14px 16px; }
.cards b { display: block; font-size: 27px; line-height: 1.2; letter-spacing: -.02em;
  font-variant-numeric: tabular-nums; }
.cards span { color: var(--soft); font-size: 14px; line-height: 1.35; display: block; overflow-wrap: anywhere; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 330px), 1fr)); gap: 14px;
  margin-top: 14px; }
.wide { columns: 2 430px; column-gap: 14px; margin-top: 14px; }
.wide > * { break-inside: avoid; margin-bottom: 14px; }
.task { margin-top: 26px; }
.seen { background: none; border: 0; padding: 0; } .seen > summary h2 { display: inline; }
.seen > summary { margin-top: 48px; } .seen > p { margin-top: 6px; }
.card { min-width: 0; } figure { margin: 0; }
.card p { font-size: 14px; margin: 8px 0 0; }
svg { display: block; width: 100%; height: auto; margin: 0 auto; overflow: visible; }
svg text { fill: var(--text); font-size: 12.5px; font-variant-numeric: tabular-nums; }
svg .soft { fill: var(--soft); } svg .small { font-size: 11.5px; } svg .on { fill: var(--on); }
svg .mid { text-anchor: middle; } svg .end { text-anchor: end; fill: var(--soft); }
svg .grid { stroke: var(--grid); } svg .cell { fill: var(--grid); fill-opacity: .5; }
svg .line { fill: none; stroke-width: 2; stroke-linejoin: round; } svg .thin { stroke-width: 1.4; stroke-opacity: .75; }
svg .hit { fill: transparent; }
svg .diagonal { stroke: var(--soft); stroke-dasharray: 4 4; }
svg .dots { fill: none; stroke-width: 5; stroke-linecap: round; stroke-opacity: .55; }
svg .dots.square { stroke-linecap: square; stroke-width: 4; }
svg .name { font-weight: 700; font-size: 17px; paint-order: stroke; stroke: var(--card); stroke-width: 4px; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: 2px 18px; padding: 0; margin: 12px 0 0;
  font-size: 15px; }
.legend li { overflow-wrap: anywhere; }
.legend i { display: inline-block; width: 18px; height: 4px; border-radius: 2px; margin-right: 7px;
  vertical-align: 4px; } .legend .dashed { border-radius: 0; width: 7px; }
.scroll { overflow-x: auto; margin: 14px 0; }
table { border-collapse: collapse; width: 100%; font-size: 15px; background: var(--card); }
th, td { text-align: left; padding: 8px 12px; border-bottom: 1px solid var(--rule); vertical-align: top; }
th { font-weight: 600; color: var(--soft); font-size: 14px; line-height: 1.3; vertical-align: bottom; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; } td.n { white-space: nowrap; }
td.bar { width: 26%; min-width: 90px; } td.bar div { height: 12px; border-radius: 3px; margin-top: 6px; }
td.top { font-weight: 700; }
td.wrap { overflow-wrap: anywhere; min-width: 7.5em; } td.wrap:first-child { min-width: 10.5em; }
.thumbs { display: grid; grid-template-columns: repeat(auto-fill, minmax(84px, 1fr)); gap: 12px; margin-top: 10px; }
.thumbs figure { margin: 0; min-width: 0; } .thumbs img { width: 100%; border-radius: 6px; display: block; }
figcaption { font-size: 13px; line-height: 1.35; margin-top: 4px; overflow-wrap: anywhere; }
img.pixels { image-rendering: pixelated; }
.strips { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 500px), 1fr)); gap: 14px;
  margin-top: 14px; }
.strip figcaption { margin: 0 0 6px; }
.rows { display: grid; grid-template-columns: auto minmax(0, 1fr); gap: 10px; }
.rows > div { display: flex; flex-direction: column; justify-content: space-around; font-size: 13px; }
.rows img { width: 100%; display: block; border-radius: 6px; }
details { margin: 10px 0; background: var(--card); border: 1px solid var(--rule); border-radius: 10px;
  padding: 10px 16px; } summary { cursor: pointer; font-weight: 600; overflow-wrap: anywhere; }
pre { overflow-x: auto; font: 13px/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace; margin: 10px 0 4px; }
pre .soft { color: var(--soft); }
footer { margin-top: 60px; color: var(--soft); font-size: 14px; }
@media (max-width: 520px) { main { padding: 22px 14px 48px; } h2 { margin-top: 40px; } .cards b { font-size: 23px; }
  .cards { grid-template-columns: 1fr 1fr; } th, td { padding: 7px 8px; } .card { padding: 12px; } }
@media print { details { break-inside: avoid; } .card { break-inside: avoid; } }
"""
