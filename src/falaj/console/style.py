"""The report's one style sheet: Okabe and Ito's colours, light and dark, wide and narrow, screen and paper."""

STYLE = """
:root{--bg:#fff;--card:#fff;--ink:#1b1f24;--soft:#5b6570;--faint:#6c7580;--line:#e6e9ed;--grid:#eef0f3;
--blue:#0072b2;--red:#d55e00;--green:#009e73;--orange:#e69f00;--purple:#cc79a7;--sky:#56b4e9;--goodink:#007a59;--badink:#b84f00;
--band0:#dbe9f4;--band1:#e9eef3;--shade0:#f6f7f9;--shade1:#eff2f5;--shade2:#e7ebef;
--h0:#f4f5f7;--h1:#fdeedb;--h2:#fad7ac;--h3:#f2b06b;--h4:#df7c34;--h5:#b34700}
@media (prefers-color-scheme:dark){:root{--bg:#14171b;--card:#14171b;--ink:#e8ebee;--soft:#a4adb7;--faint:#7b8590;
--line:#2b3138;--grid:#23282e;--blue:#56b4e9;--red:#f08a3c;--green:#3ec9a0;--orange:#f2b84b;--purple:#e0a3c6;--sky:#8fd0f5;--goodink:#3ec9a0;--badink:#f08a3c;
--band0:#1f3a50;--band1:#2a323b;--shade0:#1a1e23;--shade1:#1f242a;--shade2:#262c33;
--h0:#1c2025;--h1:#3b2b1a;--h2:#5c3d1c;--h3:#8a5420;--h4:#c06a24;--h5:#f59a4a}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);font:15px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",
Arial,sans-serif;-webkit-text-size-adjust:100%}
main{max-width:1120px;margin:0 auto;padding:56px 40px 96px}
h1{font-size:15px;font-weight:600;color:var(--soft);margin:0 0 10px;letter-spacing:.01em}
.lead{font-size:27px;line-height:1.3;font-weight:600;letter-spacing:-.015em;margin:0 0 36px;max-width:32em;text-wrap:balance}
h2{font-size:21px;font-weight:650;letter-spacing:-.01em;margin:72px 0 4px}
h3{font-size:16px;font-weight:650;margin:36px 0 2px}
h4{font-size:13px;font-weight:600;margin:0 0 2px}
p{margin:0 0 16px}.note{color:var(--soft);max-width:46em;margin:0 0 22px}
.tiles{display:grid;grid-template-columns:repeat(5,1fr);
border-top:1px solid var(--line);border-bottom:1px solid var(--line)}
.tile{padding:18px 18px 18px 0}.tile+.tile{padding-left:18px;border-left:1px solid var(--line)}
.tile b{display:block;font-size:23px;font-weight:600;letter-spacing:-.02em;line-height:1.25;overflow-wrap:anywhere}
.tile span{color:var(--soft);font-size:13px;display:block}
.good{color:var(--goodink)}.bad{color:var(--badink)}.warn{color:var(--orange)}.info{color:var(--blue)}
.grid3{display:grid;grid-template-columns:repeat(3,minmax(0,1fr));gap:28px 22px;margin-top:18px}
.grid2{display:grid;grid-template-columns:repeat(2,minmax(0,1fr));gap:32px 40px}
.unit{color:var(--faint);font-weight:400;margin-left:6px}
.key{color:var(--soft);font-size:13px;margin:6px 0 0}.key i{display:inline-block;width:18px;height:0;border-top:2.5px solid;
vertical-align:middle;margin:0 7px 2px 0}.key span{margin-right:20px;white-space:nowrap}
.key i.dash{border-top-style:dashed}
figure{margin:0}figcaption{color:var(--soft);font-size:13px;margin-top:6px}
svg{display:block;max-width:100%;height:auto;overflow:visible}
.narrow{display:none}
table{border-collapse:collapse;width:100%;font-size:14px}
.scroll{overflow-x:auto;margin-top:8px}
th{font-weight:500;color:var(--soft);text-align:left;font-size:13px;white-space:nowrap}
th,td{padding:9px 18px 9px 0;border-bottom:1px solid var(--line);vertical-align:top}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
td small,th small{color:var(--soft);display:block}
td .m{font-weight:700;margin-right:6px}
.tag{font-weight:600}td .tag{white-space:nowrap}
details{margin-top:14px}summary{cursor:pointer;color:var(--soft);font-size:13px}
pre{font:12px/1.6 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;color:var(--soft);white-space:pre-wrap;
overflow-wrap:anywhere;border-left:2px solid var(--line);padding-left:16px;margin:12px 0}
footer{margin-top:80px;padding-top:18px;border-top:1px solid var(--line);color:var(--faint);font-size:13px}
svg text{font-size:12px;fill:var(--soft);font-family:inherit}
svg .tick{fill:var(--faint);font-size:11.5px}svg .lane{fill:var(--soft)}svg .panel{fill:var(--ink);font-weight:600;font-size:13px}
svg .onband{fill:var(--ink);font-weight:600}
svg .grid{stroke:var(--grid)}svg .axis{stroke:var(--line)}
svg .served.tone0{fill:var(--band0)}svg .served.tone1{fill:var(--band1)}
svg .release0{fill:none}svg .release1{fill:var(--shade0)}
svg .step{opacity:.85}svg .step.good{fill:var(--green)}svg .step.bad{fill:var(--red)}
svg .step.warn{fill:var(--orange)}svg .step.info{fill:var(--blue)}
svg .outcome{font-weight:600}svg .outcome.good{fill:var(--goodink)}svg .outcome.bad{fill:var(--badink)}
svg .outcome.warn{fill:var(--orange)}svg .outcome.info{fill:var(--blue)}
svg .mark{stroke:var(--bg);stroke-width:1.5}svg .mark.drift{fill:var(--purple)}svg .mark.decay{fill:var(--red)}
svg .mark.retrain{fill:var(--blue)}
svg .alarm{fill:var(--faint)}svg .alarm.open{fill:var(--red)}
svg .shade0{fill:var(--shade0)}svg .shade1{fill:var(--shade1)}svg .shade2{fill:var(--shade2)}
svg .share{fill:var(--faint);font-size:11.5px}
svg .limit{stroke-dasharray:4 4;stroke-width:1.2}svg .limit.bad{stroke:var(--red)}svg .limit.good{stroke:var(--blue)}
svg .limitname{font-size:11px}svg .limitname.bad{fill:var(--badink)}svg .limitname.good{fill:var(--blue)}
svg .line{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}
svg .line.bad{stroke:var(--red)}svg .line.good{stroke:var(--blue)}svg .line.champion{stroke:var(--blue)}
svg .dot.bad{fill:var(--red)}svg .dot.good,svg .dot.champion{fill:var(--blue)}svg .dot.challenger{fill:var(--orange)}
svg .whisker{stroke-width:2.5;stroke-linecap:round}
svg .whisker.champion{stroke:var(--blue)}svg .whisker.challenger{stroke:var(--orange)}
svg .band.champion{fill:var(--blue);opacity:.13}
svg .promise{stroke:var(--ink);stroke-width:1.3;stroke-dasharray:5 4}
svg .line.fade0{stroke:var(--blue)}svg .line.fade1{stroke:var(--sky)}svg .line.fade2{stroke:var(--faint)}
svg .dot.fade0{fill:var(--blue)}svg .dot.fade1{fill:var(--sky)}svg .dot.fade2{fill:var(--faint)}
svg .heat0{fill:var(--h0)}svg .heat1{fill:var(--h1)}svg .heat2{fill:var(--h2)}svg .heat3{fill:var(--h3)}
svg .heat4{fill:var(--h4)}svg .heat5{fill:var(--h5)}svg .drifted{fill:var(--ink);stroke:var(--bg);stroke-width:.8}
@media (max-width:820px){main{padding:32px 22px 64px}.wide{display:none}.narrow{display:block}.lead{font-size:21px}
.tiles{grid-template-columns:repeat(2,1fr)}.tile,.tile+.tile{padding:14px 12px 14px 0;border-left:0}
.grid3,.grid2{grid-template-columns:minmax(0,1fr)}svg{width:100%;max-width:560px}
h2{margin-top:52px}}
@media print{main{padding:0;max-width:none}h2{break-after:avoid}figure,.guard,tr{break-inside:avoid}body{font-size:12px}}
"""
