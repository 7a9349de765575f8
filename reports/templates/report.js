"use strict";
// Draws the charts of a report. The page reads well without this: texts and tables don't need it.
(async () => {
  const read = (id) => document.getElementById(id);
  const charts = [...document.querySelectorAll(".chart")];
  if (!charts.length || !read("plotly")) return;

  const give_up = (reason) => {
    for (const chart of charts) {
      const note = document.createElement("p");
      note.className = "small";
      note.textContent = `This chart could not be drawn: ${reason}.`;
      chart.style.height = "auto";
      chart.replaceChildren(note);
    }
  };
  if (typeof DecompressionStream === "undefined") return give_up("this browser can't unpack it");

  // The policy of this page knows the hash of plotly.js, so this text runs if it is that, and nothing else would.
  const packed = Uint8Array.from(atob(read("plotly").textContent), (character) => character.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const library = document.createElement("script");
  library.textContent = await new Response(stream).text();
  document.head.append(library);
  if (typeof Plotly === "undefined") return give_up("the browser refused to run plotly.js");

  const { light, dark, config } = JSON.parse(read("themes").textContent);
  // Where a finger scrolls, a chart mustn't take the gesture, and a tool bar would always be in the way.
  const pointing = matchMedia("(hover: hover)").matches;
  if (!pointing) config.displayModeBar = false;
  const darkness = matchMedia("(prefers-color-scheme: dark)");
  const pick_theme = () => (darkness.matches ? dark : light);
  const draw = (chart, theme, width) => {
    const figure = JSON.parse(read(chart.id.replace("chart-", "data-")).textContent);
    const layout = { ...figure.layout, template: theme, dragmode: pointing && "zoom", width, autosize: !width };
    // In a narrow place the legend takes a line for each series, and the plot below it would be flat.
    const series = figure.data.filter((trace) => trace.name && trace.showlegend !== false).length;
    if ((width ?? chart.clientWidth) < 480 && series > 2) layout.height += 22 * series;
    chart.style.height = `${layout.height}px`;
    return Plotly.react(chart, figure.data, layout, config);
  };
  const dress = (theme, width) => Promise.all(charts.map((chart) => draw(chart, theme, width)));
  for (const chart of charts) chart.replaceChildren();
  await dress(pick_theme());
  darkness.addEventListener("change", () => dress(pick_theme()));

  // Paper is light, about 180 mm wide, and nobody unfolds anything on it.
  addEventListener("beforeprint", () => {
    for (const fold of document.querySelectorAll("details:not([open])")) {
      fold.open = true;
      fold.dataset.folded = "yes";
    }
    dress(light, 680);
  });
  addEventListener("afterprint", () => {
    for (const fold of document.querySelectorAll("details[data-folded]")) {
      fold.open = false;
      delete fold.dataset.folded;
    }
    dress(pick_theme());
  });
  document.documentElement.dataset.charts = String(charts.length);
})();
