// Keeps the overview up to date. The server says by an event that something is new; the
// page is then read again and the sections that changed take the place of the old ones.
// So html/template stays the only thing that puts data into HTML.
'use strict';
(() => {
  const silence = 10_000; // ms without an event, which come every 2 s, after which the line counts as lost
  const state = document.getElementById('connection');
  if (!state) {
    return;
  }
  let source = null;
  let lastAt = Date.now();
  let lastStatusAt = Date.now();
  let reading = false;

  const clock = (ms) => `${new Date(ms).toISOString().slice(11, 19)}Z`;

  const show = (live) => {
    const text = live ? 'live' : `connection lost, last update at ${clock(lastAt)}`;
    if (state.textContent !== text) { // it is announced when it changes, and only then
      state.textContent = text;
      state.classList.toggle('lost', !live);
      document.documentElement.classList.toggle('offline', !live);
    }
  };

  // What somebody types in is left alone.
  const inUse = (section) => [...section.querySelectorAll('input, textarea, select')]
    .some((field) => field === document.activeElement || (field.type !== 'hidden' && field.value !== field.defaultValue && 'defaultValue' in field));

  // What somebody opened stays open.
  const keepOpen = (old, now) => {
    for (const details of old.querySelectorAll('details[id][open]')) {
      now.querySelector(`#${CSS.escape(details.id)}`)?.setAttribute('open', '');
    }
  };

  const takeOver = (fresh) => {
    if ([...fresh.querySelectorAll('[data-live]')].some((section) => !document.getElementById(section.id))) {
      location.reload(); // the page was made while less was known
      return;
    }
    // What the new page does not have stays as it was last seen, and looks so.
    document.documentElement.classList.toggle('blind', !fresh.getElementById('live-numbers'));
    for (const old of document.querySelectorAll('[data-live]')) {
      const now = fresh.getElementById(old.id);
      if (!now || inUse(old)) {
        continue;
      }
      keepOpen(old, now);
      if (now.isEqualNode(old)) {
        continue;
      }
      const focused = old.contains(document.activeElement) ? document.activeElement.id : '';
      old.replaceWith(document.importNode(now, true));
      if (focused) {
        document.getElementById(focused)?.focus({ preventScroll: true });
      }
    }
  };

  const readPage = async () => {
    if (reading) {
      return;
    }
    reading = true;
    try {
      const answer = await fetch(location.pathname, { headers: { Accept: 'text/html' } });
      if (answer.redirected) {
        location.assign(answer.url); // the login has ended
      } else if (answer.ok || answer.status === 503) { // 503: nothing is known of the fleet, and the page says so
        takeOver(new DOMParser().parseFromString(await answer.text(), 'text/html'));
      }
    } catch { /* the event stream finds out, and says so */ } finally {
      reading = false;
    }
  };

  const heard = () => {
    lastAt = Date.now();
    show(true);
  };

  const open = () => {
    source = new EventSource('/api/events');
    source.addEventListener('status', () => {
      heard();
      lastStatusAt = Date.now();
      readPage();
    });
    source.addEventListener('sample', (event) => {
      heard();
      window.meterworkerPlots?.add(JSON.parse(event.data));
      if (Date.now() - lastStatusAt > silence) {
        readPage(); // the worker is there, but knows nothing of the fleet: the page says why
      }
    });
    source.addEventListener('error', () => {
      show(false);
      if (source.readyState === EventSource.CLOSED) { // refused rather than cut: the browser does not try again
        close();
        readPage(); // finds out whether the login has ended
        setTimeout(resume, 5000);
      }
    });
  };

  const close = () => {
    source?.close();
    source = null;
  };

  const resume = () => {
    if (!source && document.visibilityState === 'visible') {
      lastAt = Date.now();
      window.meterworkerPlots?.load();
      open();
    }
  };

  // Nobody looks at a hidden page, and a browser has few connections to one server.
  document.addEventListener('visibilitychange', () => {
    if (document.visibilityState === 'hidden') {
      close();
    } else {
      resume();
    }
  });
  addEventListener('pagehide', close);
  addEventListener('pageshow', resume);
  setInterval(() => {
    if (source && Date.now() - lastAt > silence) {
      show(false);
    }
  }, 1000);
  resume();
})();
