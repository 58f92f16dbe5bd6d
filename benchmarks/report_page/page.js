// The page's own script: draws the figures, and makes filters, the table and the buttons work. No network is used.
(() => {
  "use strict";
  const held = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const NARROW = 560;
  const FIRST_SERIES = 5;
  const FIRST_ROWS = 25;
  const MOST_BARS = 300;
  const NEAR = 0.25;
  const NAME_ROOM = [120, 16]; // pixels across and up that a name takes
  const LETTER = 7; // pixels of a letter, rather too many
  const PLOT_HEIGHT = 300;
  const MOST_NAMES = 14;
  const ERRORS = 1; // of vega's levels of logging

  const made = (tag, text, attributes = {}) => {
    const element = document.createElement(tag);
    if (text !== undefined) element.textContent = text;
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    return element;
  };

  // Columns as they were packed, back to rows.
  const rowsOf = (columns) => {
    const names = Object.keys(columns);
    const lists = names.map((name) => {
      const column = columns[name];
      return Array.isArray(column) ? column : column.codes.map((code) => column.values[code]);
    });
    const count = lists.length ? lists[0].length : 0;
    return Array.from({ length: count }, (_, row) =>
      Object.fromEntries(names.map((name, place) => [name, lists[place][row]])));
  };

  const csvOf = (rows) => {
    if (!rows.length) return "";
    const names = Object.keys(rows[0]);
    const cell = (value) => {
      if (value === null || value === undefined) return "";
      const text = String(value);
      return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
    };
    return [names, ...rows.map((row) => names.map((name) => row[name]))]
      .map((line) => line.map(cell).join(",")).join("\n") + "\n";
  };

  const save = (name, text, type) => {
    const link = made("a", undefined, { download: name });
    link.href = URL.createObjectURL(new Blob([text], { type }));
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };

  const SI = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]];
  const short = (value, isCount) => {
    if (value === null || value === undefined) return "?";
    if (isCount) {
      for (const [unit, letter] of SI) if (Math.abs(value) >= unit) return `${+(value / unit).toPrecision(4)} ${letter}`;
    }
    return String(+value.toPrecision(4));
  };

  // As wide as the screen allows, with legends and labels that fit into it.
  const fitted = (spec, width, longest) => {
    const columns = Math.max(1, Math.floor(width / (46 + 6.6 * longest)));
    const axis = { ...spec.config.axis, labelLimit: Math.max(90, Math.round(width * 0.3)) };
    const legend = { ...spec.config.legend, columns, labelLimit: Math.round(width * 0.8) };
    // Side by side, several legends are wider than a phone.
    if (width < NARROW) {
      legend.layout = { top: { direction: "vertical", anchor: "start" } };
      Object.assign(legend, { labelFontSize: 10.5, labelLimit: width - 40 });
    }
    const made = { ...spec, config: { ...spec.config, axis, legend } };
    const down = spec.encoding && spec.encoding.y;
    if (!down || down.field !== "layer") return made;
    // Layers differ at the end of their names: where there is no room the beginning goes.
    const labelExpr = `truncate(datum.label, ${Math.floor(axis.labelLimit / LETTER)}, 'left')`;
    return { ...made, encoding: { ...spec.encoding, y: { ...down, axis: { ...down.axis, labelExpr } } } };
  };

  const views = new Map();
  const draw = async (key, place, spec, rows, options = {}) => {
    const old = views.get(key);
    const named = rows.map((row) => Math.max(...["series", "runtime", "measure"].map((name) => (row[name] || "").length)));
    const longest = named.reduce((most, one) => Math.max(most, one), 12);
    const { view } = await vegaEmbed(place, fitted(spec, place.clientWidth, longest), {
      actions: false, renderer: "svg", mode: "vega-lite", logLevel: ERRORS, ...options });
    if (old) old.view.finalize();
    views.set(key, { view, rows });
    return view;
  };

  const addButtons = (figure, key) => {
    const tools = made("div", undefined, { class: "tools" });
    const svg = made("button", "SVG", { type: "button", "data-save": "svg", title: "Save this figure as SVG" });
    const csv = made("button", "CSV", { type: "button", "data-save": "csv", title: "Save the data of this figure as CSV" });
    svg.addEventListener("click", async () => save(`${key}.svg`, await views.get(key).view.toSVG(), "image/svg+xml"));
    csv.addEventListener("click", () => save(`${key}.csv`, csvOf(views.get(key).rows), "text/csv"));
    tools.append(svg, csv);
    figure.querySelector(".chart").after(tools);
  };

  const checkbox = (text, checked, changed, parent) => {
    const label = made("label");
    const box = made("input", undefined, { type: "checkbox", value: text });
    box.checked = checked;
    box.addEventListener("change", changed);
    label.append(box, text);
    parent.append(label);
    return box;
  };

  // Figures of one spec each; some show a part of their rows, which is chosen beside them.
  const coloured = (spec, chosen, choices, field) => {
    const range = spec.config.range.category;
    const scale = { domain: chosen, range: chosen.map((name) => range[choices.indexOf(name) % range.length]) };
    const patched = (part) => {
      const color = part.encoding && part.encoding.color;
      const own = color && color.field === field ? { ...part, encoding: { ...part.encoding, color: { ...color, scale } } } : part;
      return own.layer ? { ...own, layer: own.layer.map(patched) } : own;
    };
    return patched(spec);
  };

  const startFigure = async (figure) => {
    const key = figure.dataset.figure;
    const { spec, rows: columns, chooser } = held.figures[key];
    const rows = rowsOf(columns);
    const place = figure.querySelector(".chart");
    const show = (shown, drawn = spec) => draw(key, place, { ...drawn, datasets: { rows: shown } }, shown);
    addButtons(figure, key);
    if (!chooser) return show(rows);
    const panel = figure.querySelector(".chooser");
    if (chooser.many) {
      const parent = made("fieldset", undefined, { class: chooser.choices.length > FIRST_SERIES ? "many" : "" });
      parent.append(made("legend", chooser.label));
      const boxes = [];
      const changed = () => {
        const chosen = boxes.filter((box) => box.checked).map((box) => box.value);
        const set = new Set(chosen);
        return show(rows.filter((row) => set.has(row[chooser.field])), coloured(spec, chosen, chooser.choices, chooser.field));
      };
      chooser.choices.forEach((text, number) => boxes.push(checkbox(text, number < FIRST_SERIES, changed, parent)));
      panel.append(parent);
      return changed();
    }
    const select = made("select");
    chooser.choices.forEach((text) => select.append(made("option", text, { value: text })));
    const label = made("label", chooser.label);
    label.append(select);
    panel.append(label);
    const changed = () => show(rows.filter((row) => row[chooser.field] === select.value));
    select.addEventListener("change", changed);
    return changed();
  };

  // The frontier and the table of all points.
  const startPoints = async () => {
    const doc = held.frontier;
    const points = rowsOf(doc.points);
    const spare = new Set(doc.spare);
    const kinds = (name) => [...new Set(points.map((point) => point[name]))].sort();
    const several = (name) => kinds(name).filter((text) => text !== "").length > 1;
    const passes = { runtime: new Set(kinds("runtime")), precision: new Set(kinds("precision")), text: "" };
    const passing = (point) => passes.runtime.has(point.runtime) && passes.precision.has(point.precision)
      && point.bundle.toLowerCase().includes(passes.text);

    const figuresOf = (point) => {
      const told = ["runtime", "precision", "batch", "threads", "target", "protocol"]
        .filter((name) => point[name] !== "" && point[name] !== null).map((name) => [name, String(point[name])]);
      for (const axis of doc.axes) {
        if (point[axis.name] === null) continue;
        const [low, high] = [point[`${axis.name} low`], point[`${axis.name} high`]];
        const reach = low === null ? "" : ` (${short(low, axis.count)} to ${short(high, axis.count)})`;
        told.push([axis.title, short(point[axis.name], axis.count) + reach]);
      }
      return told;
    };
    // What a mark tells: a point of ours, or a published figure; null for all else.
    const toldOf = (item) => {
      const datum = item && item.datum;
      if (!datum) return null;
      if (datum.place !== undefined) return { name: points[datum.place].bundle, figures: figuresOf(points[datum.place]) };
      if (datum.source === undefined) return null;
      const [x, y] = ["axis-x", "axis-y"].map((id) => axisNamed(byId(id).value));
      return { name: datum.name, figures: [["published by", datum.source],
        [x.title, short(datum.x, x.count)], [y.title, short(datum.y, y.count)]] };
    };
    const fill = (place, told) => {
      const list = made("dl");
      for (const [name, text] of told.figures) {
        const pair = place.classList.contains("tip") ? list : list.appendChild(made("div"));
        pair.append(made("dt", name), made("dd", text));
      }
      place.replaceChildren(made("b", told.name), list);
    };

    const tip = made("div", undefined, { class: "tip", hidden: "" });
    document.body.append(tip);
    const hover = (_, event, item, value) => {
      const told = value === null || value === undefined || value === "" ? null : toldOf(item);
      if (!told) {
        tip.hidden = true;
        return;
      }
      fill(tip, told);
      tip.hidden = false;
      const room = 12;
      const left = Math.min(event.clientX + room, window.innerWidth - tip.offsetWidth - room);
      const below = event.clientY + room + tip.offsetHeight < window.innerHeight;
      tip.style.left = `${Math.max(room, left)}px`;
      tip.style.top = `${below ? event.clientY + room : Math.max(room, event.clientY - room - tip.offsetHeight)}px`;
    };

    const chart = document.querySelector('[data-figure="frontier"] .chart');
    const axisNamed = (name) => doc.axes.find((axis) => axis.name === name);
    const settingNow = () => {
      const number = doc.settings.findIndex((setting) => setting.machine === byId("machine").value
        && String(setting.batch) === byId("batch").value && String(setting.threads) === byId("threads").value);
      return number;
    };

    // What stays of the frontier where filters hide points: as slimalign computes it, but with the noise of a difference
    // from the two intervals, as the errors of single faces are not in the page.
    const costOf = (axis, point) => {
      const kept = axis.digits === null ? point[axis.name] : +point[axis.name].toFixed(axis.digits);
      return axis.more ? -kept : kept;
    };
    const reachOf = (axis, point) => {
      const [low, high] = [point[`${axis.name} low`], point[`${axis.name} high`]];
      return low === null ? 0 : (high - low) / 2;
    };
    const curveOf = (places, x, y) => {
      const spots = places.map((place) => ({ place, costs: [x, y].map((axis) => costOf(axis, points[place])),
        reach: [x, y].map((axis) => reachOf(axis, points[place])) }));
      const asGood = (one, other) => one.costs.every((cost, axis) => cost <= other.costs[axis]);
      const beats = (one, other) => asGood(one, other) && one.costs.some((cost, axis) => cost < other.costs[axis]);
      const surely = (one, other) => one.costs.some((cost, axis) => other.costs[axis] - cost > 0
        && other.costs[axis] - cost > Math.hypot(one.reach[axis], other.reach[axis]));
      const line = spots.filter((one) => !spots.some((other) => beats(other, one)));
      const unbeaten = new Set(line);
      const kept = spots.filter((one) => unbeaten.has(one) || !spots.some((other) => asGood(other, one) && surely(other, one)));
      const unsure = kept.filter((one) => !unbeaten.has(one)
        || kept.some((other) => surely(other, one) && !surely(one, other)));
      line.sort((one, other) => points[one.place][x.name] - points[other.place][x.name]);
      return [line, unsure].map((found) => found.map((one) => one.place));
    };

    // Those of the wanted whose names do not lie on each other, or on what is taken, where all rows are drawn.
    const spaced = (rows, wanted, taken = []) => {
      const span = (values) => values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);
      const [across, up] = [span(rows.map((row) => Math.log(row.x))), span(rows.map((row) => row.y))];
      const share = (value, [low, high]) => (high === low ? 0.5 : (value - low) / (high - low));
      const pixels = (row) => [share(Math.log(row.x), across) * chart.clientWidth * 0.85, share(row.y, up) * PLOT_HEIGHT];
      const held = taken.map(pixels);
      return wanted.filter((row) => {
        const spot = pixels(row);
        const free = held.every((other) => NAME_ROOM.some((room, axis) => Math.abs(spot[axis] - other[axis]) > room));
        if (free) held.push(spot);
        return free;
      });
    };

    const frontierData = (number, x, y) => {
      const setting = doc.settings[number];
      const passed = setting.points.filter((place) => passing(points[place]));
      const whole = passed.length === setting.points.length;
      const known = passed.filter((place) => points[place][x.name] > 0 && points[place][y.name] !== null);
      const [line, unsure] = whole
        ? doc.curves[`${number}|${x.name}|${y.name}`].map((owns) => owns.map((own) => setting.points[own]))
        : curveOf(known, x, y);
      const [lined, doubted] = [new Set(line), new Set(unsure)];
      const wide = chart.clientWidth >= NARROW;
      let rows = known.map((place) => {
        const point = points[place];
        const state = doubted.has(place) ? "uncertain" : lined.has(place) ? "on the frontier" : "behind it";
        return { bundle: point.bundle, runtime: point.runtime, precision: point.precision,
          x: point[x.name], x_low: point[`${x.name} low`], x_high: point[`${x.name} high`],
          y: point[y.name], y_low: point[`${y.name} low`], y_high: point[`${y.name} high`],
          state, name: "", place };
      });
      if (byId("near").checked) {
        const best = rows.filter((row) => row.state !== "behind it").map((row) => row.y);
        const room = NEAR * (Math.max(...best) - Math.min(...best)) + 1e-9;
        const limit = Math.max(...best) + Math.max(room, 0.1 * Math.max(...best));
        rows = rows.filter((row) => row.y <= limit);
      }
      if (rows.length > MOST_BARS) {
        for (const row of rows) if (row.state === "behind it") row.x_low = row.y_low = null;
      }
      const published = doc.published.filter((one) => one[x.name] != null && one[y.name] != null)
        .map((one) => ({ name: one.name, label: "", source: one.source, x: one[x.name], y: one[y.name] }));
      if (wide) {
        const all = [...rows, ...published];
        const first = rows.filter((row) => lined.has(row.place)).sort((a, b) => a.x - b.x);
        const others = rows.filter((row) => doubted.has(row.place) && !lined.has(row.place));
        for (const row of spaced(all, [...first, ...others]).slice(0, MOST_NAMES)) row.name = row.bundle;
        for (const row of spaced(all, published, rows)) row.label = row.name.split(" (")[0];
      }
      const corners = line.map((place, order) => ({ x: points[place][x.name], y: points[place][y.name], order }))
        .filter((corner) => corner.x > 0);
      return { points: rows, line: corners, published, whole };
    };

    const drawFrontier = async () => {
      const [x, y, number] = [axisNamed(byId("axis-x").value), axisNamed(byId("axis-y").value), settingNow()];
      const { whole: unfiltered, ...data } = frontierData(number, x, y);
      const layer = doc.spec.layer.map((part) => {
        const encoding = { ...part.encoding };
        for (const [channel, axis] of [["x", x], ["y", y]]) {
          encoding[channel] = { ...encoding[channel], title: axis.title, axis: { format: axis.format } };
        }
        const mark = part.mark.interpolate ? { ...part.mark, interpolate: x.step } : part.mark;
        return { ...part, encoding, mark };
      });
      const lacking = doc.settings[number].points.filter((place) => passing(points[place])).length - data.points.length;
      const notes = [];
      if (lacking > 0) notes.push(`${lacking} points are not drawn: they lack one of the figures${byId("near").checked ? ", or lie far behind" : ""}.`);
      if (!unfiltered) notes.push("The frontier is that of the points that pass the filters; what is uncertain is judged by the intervals alone.");
      byId("frontier-note").textContent = notes.join(" ");
      if (!data.points.length) {
        tip.hidden = true;
        byId("frontier-note").textContent = "No point that passes the filters has both figures.";
      }
      const view = await draw("frontier", chart, { ...doc.spec, layer, datasets: data }, data.points, { tooltip: hover });
      view.addEventListener("click", (_, item) => {
        const told = toldOf(item);
        if (told) fill(byId("details"), told);
      });
    };

    const options = (select, values, wanted) => {
      select.replaceChildren(...values.map((value) => made("option", value === null ? "any" : String(value), { value: String(value) })));
      select.value = values.map(String).includes(wanted) ? wanted : String(values[0]);
    };
    const fillSettings = (start) => {
      const own = doc.settings.filter((setting) => setting.machine === byId("machine").value);
      options(byId("batch"), [...new Set(own.map((setting) => setting.batch))], start ? String(start.batch) : byId("batch").value);
      const same = own.filter((setting) => String(setting.batch) === byId("batch").value);
      options(byId("threads"), [...new Set(same.map((setting) => setting.threads))], start ? String(start.threads) : byId("threads").value);
    };

    // The table.
    const figureColumns = (error) => doc.axes.filter((axis) => axis.error === error).map((axis) => ({ ...axis, text: false }));
    const columns = [
      { name: "bundle", title: "bundle", text: true },
      ...figureColumns(true),
      ...["runtime", "precision", "batch", "threads", "target", "protocol"]
        .filter((name) => !["target", "protocol"].includes(name) || several(name))
        .map((name) => ({ name, title: name, text: !["batch", "threads"].includes(name) })),
      ...figureColumns(false),
    ];
    const firstError = doc.axes.find((axis) => axis.error) || doc.axes[0];
    const order = { name: firstError ? firstError.name : "bundle", up: true };
    let whole = false;
    const compared = (a, b) => {
      const [one, other] = [a[order.name], b[order.name]];
      if (one === other) return 0;
      // What was not measured comes last, whichever way is sorted.
      if (one === null) return 1;
      if (other === null) return -1;
      const less = typeof one === "string" ? one.localeCompare(other) : one - other;
      return order.up ? less : -less;
    };
    const fillTable = () => {
      const shown = points.filter((point, place) => !spare.has(place) && passing(point)).sort(compared);
      const head = made("tr");
      for (const column of columns) {
        const cell = made("th", undefined, { scope: "col", class: column.text ? "" : "number" });
        if (column.name === order.name) cell.setAttribute("aria-sort", order.up ? "ascending" : "descending");
        const button = made("button", column.title, { type: "button" });
        button.addEventListener("click", () => {
          order.up = column.name === order.name ? !order.up : true;
          order.name = column.name;
          fillTable();
          byId("table").querySelector("[aria-sort] button").focus();
        });
        cell.append(button);
        head.append(cell);
      }
      byId("table").tHead.replaceChildren(head);
      const drawn = whole ? shown : shown.slice(0, FIRST_ROWS);
      byId("table").tBodies[0].replaceChildren(...drawn.map((point) => {
        const row = made("tr");
        for (const column of columns) {
          const value = point[column.name];
          const text = column.text ? value : short(value, column.count);
          row.append(made("td", text, { class: column.text ? "" : "number" }));
        }
        return row;
      }));
      byId("count").textContent = `${shown.length} points${drawn.length < shown.length ? `, the first ${drawn.length} are shown` : ""}`;
      byId("more").hidden = drawn.length === shown.length;
      return shown;
    };
    byId("more").addEventListener("click", () => { whole = true; fillTable(); });
    byId("points-csv").addEventListener("click", () => save("points.csv", csvOf(fillTable()), "text/csv"));
    fillTable();

    if (!chart) return;
    const start = doc.settings[doc.start];
    options(byId("machine"), [...new Set(doc.settings.map((setting) => setting.machine))], start.machine);
    fillSettings(start);
    for (const [kind, id] of [["runtime", "runtimes"], ["precision", "precisions"]]) {
      const boxes = kinds(kind).map((text) => checkbox(text, true, () => {
        passes[kind] = new Set(boxes.filter((box) => box.checked).map((box) => box.value));
        fillTable();
        drawFrontier();
      }, byId(id)));
    }
    byId("text").addEventListener("input", () => {
      passes.text = byId("text").value.toLowerCase();
      fillTable();
      drawFrontier();
    });
    for (const id of ["axis-x", "axis-y", "machine", "batch", "threads", "near"]) {
      byId(id).addEventListener("change", () => {
        if (id === "machine" || id === "batch") fillSettings();
        drawFrontier();
      });
    }
    addButtons(chart.closest("figure"), "frontier");
    await drawFrontier();
  };

  const start = async () => {
    if (held.frontier) await startPoints();
    for (const figure of document.querySelectorAll("[data-figure]")) {
      if (figure.dataset.figure !== "frontier") await startFigure(figure);
    }
    document.documentElement.dataset.drawn = "true";
  };
  start();
})();
