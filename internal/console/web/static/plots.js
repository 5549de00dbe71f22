// The plots of the overview: half an hour of samples, two seconds apart.
'use strict';
(() => {
  const most = 900;
  const figures = [...document.querySelectorAll('[data-plot]')];
  if (figures.length === 0) {
    return;
  }

  const clock = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', timeZone: 'UTC' }); // as everywhere on the page
  const short = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 });
  const count = (v) => short.format(v);
  const perSecond = (v) => `${short.format(v)}/s`;
  const units = [[86400, 'd'], [3600, 'h'], [60, 'min'], [1, 's'], [0.001, 'ms']];
  const duration = (v) => {
    if (v === 0) {
      return '0 s';
    }
    const [size, name] = units.find(([least]) => Math.abs(v) >= least) || units.at(-1);
    return `${short.format(v / size)} ${name}`;
  };

  // Each plot: its lines, by their names in a sample, colour number and unit.
  const plots = {
    backlog: [['pending', 'waiting', 1, count], ['oldest_seconds', 'oldest', 2, duration]],
    flow: [['published', 'published', 1, perSecond], ['settled', 'settled', 3, perSecond]],
    rate: [['rate_used', 'used', 1, perSecond], ['rate_in_force', 'in force', 2, perSecond], ['rate_configured', 'configured', 5, perSecond]],
    latency: [['latency_p50', 'p50', 1, duration], ['latency_p99', 'p99', 2, duration]],
    outcomes: [['delivered', 'delivered', 3, perSecond], ['duplicate', 'duplicate', 1, perSecond],
      ['dead', 'dead', 4, perSecond], ['released', 'released', 5, perSecond]],
  };

  let samples = [];
  let drawn = new Map();

  // Custom properties hold light-dark(); an element's colour is what comes of it.
  const probe = document.getElementById('plots').appendChild(document.createElement('span'));
  probe.hidden = true;
  const colour = (name) => {
    probe.style.color = `var(--mw-${name})`;
    return getComputedStyle(probe).color;
  };

  const columns = (lines) => [
    samples.map((sample) => Date.parse(sample.at) / 1000),
    ...lines.map(([key]) => samples.map((sample) => sample[key] ?? null)),
  ];

  const scaleOf = (format) => (format === duration ? 'time' : 'amount');

  const axesOf = (lines) => {
    const ink = colour('ink');
    const grid = { stroke: colour('grid'), width: 1 };
    const formats = [...new Set(lines.map(([, , , format]) => format))];
    const text = { stroke: ink, font: '12px system-ui, sans-serif', grid, ticks: grid };
    return [
      { ...text, space: 60, values: (_, ticks) => ticks.map((tick) => clock.format(tick * 1000)) },
      ...formats.map((format, i) => ({
        ...text, scale: scaleOf(format), side: i === 0 ? 3 : 1, size: 62,
        grid: i === 0 ? grid : { show: false },
        values: (_, ticks) => ticks.map((tick) => (tick === null ? '' : format(tick))),
      })),
    ];
  };

  // From 0, so that small waves look small; up to something, so that nothing is a line.
  const fromZero = (most) => (_, least, top) => [Math.min(0, least ?? 0), Math.max((top ?? 0) * 1.1, most)];
  const leastSpan = 300; // seconds: the first samples do not fill the whole width
  const span = (_, from, to) => [Math.min(from ?? 0, (to ?? 0) - leastSpan), to ?? 0];

  // A sample without neighbours is no line: it is drawn as a point.
  const alone = (plot, line) => {
    const values = plot.data[line];
    return values.flatMap((v, i) => (v !== null && values[i - 1] == null && values[i + 1] == null ? [i] : []));
  };

  const draw = (figure) => {
    const lines = plots[figure.dataset.plot];
    const place = figure.querySelector('.canvas');
    place.replaceChildren();
    return new uPlot({
      width: Math.max(place.clientWidth, 200), height: 190,
      scales: { x: { range: span }, amount: { range: fromZero(1) }, time: { range: fromZero(0.01), time: false } },
      cursor: { drag: { x: false, y: false } },
      legend: { live: true },
      axes: axesOf(lines),
      series: [
        { label: 'at', value: (_, v) => (v == null ? '–' : clock.format(v * 1000)) },
        ...lines.map(([key, label, number, format]) => ({
          label, scale: scaleOf(format), stroke: colour(`line-${number}`), width: 2, spanGaps: false,
          dash: key === 'rate_configured' ? [6, 4] : undefined, points: { show: true, size: 4, filter: alone },
          value: (_, v) => (v == null ? '–' : format(v)),
        })),
      ],
    }, columns(lines), place);
  };

  // The legend shows the newest values while nobody points at a moment.
  const renew = (figure) => {
    const plot = drawn.get(figure);
    plot.setData(columns(plots[figure.dataset.plot]));
    if (samples.length > 0 && !(plot.cursor.left >= 0)) {
      plot.setLegend({ idx: samples.length - 1 });
    }
    figure.querySelector('.canvas').setAttribute('aria-label', described(figure));
  };

  const described = (figure) => {
    const last = samples.at(-1);
    if (!last) {
      return 'no samples yet';
    }
    const texts = plots[figure.dataset.plot]
      .map(([key, label, , format]) => `${label} ${last[key] == null ? 'unknown' : format(last[key])}`);
    return `now: ${texts.join(', ')}`;
  };

  const redraw = () => {
    for (const plot of drawn.values()) {
      plot.destroy();
    }
    drawn = new Map(figures.map((figure) => [figure, draw(figure)]));
    figures.forEach(renew);
  };

  const keep = (more) => {
    samples = more.slice(-most);
    figures.forEach(renew);
  };

  window.meterworkerPlots = {
    add(sample) {
      if (sample.at !== samples.at(-1)?.at) {
        keep([...samples, sample]);
      }
    },
    async load() {
      try {
        const answer = await fetch('/api/series');
        if (answer.ok) {
          keep(await answer.json());
        }
      } catch { /* the event stream finds out, and says so */ }
    },
  };

  const widths = new ResizeObserver((entries) => {
    for (const entry of entries) {
      const plot = drawn.get(entry.target.closest('[data-plot]'));
      const width = Math.floor(entry.contentRect.width);
      if (plot && width > 0 && width !== plot.width) {
        plot.setSize({ width, height: 190 });
      }
    }
  });
  redraw();
  figures.forEach((figure) => widths.observe(figure.querySelector('.canvas')));
  document.addEventListener('themechange', redraw);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', redraw);
})();
