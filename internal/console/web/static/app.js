// Keyboard and focus. Everything here is a short cut to a link or a field that is on the
// page anyway; no key changes anything on the server.
'use strict';
(() => {
  const places = { o: '/', d: '/dead-letters', a: '/audit' };
  const patience = 1500; // ms between the keys of "g d"
  let goAt = -Infinity;

  const typing = (element) => element.closest('input, textarea, select, [contenteditable]') !== null;
  const help = () => document.getElementById('keys');
  const rows = () => [...document.querySelectorAll('[data-row]')].filter((row) => row.offsetParent !== null);

  // A row is where its link has the focus: Enter then opens it without our help.
  const step = (by) => {
    const all = rows();
    if (all.length === 0) {
      return;
    }
    const now = all.findIndex((row) => row.contains(document.activeElement));
    const to = now < 0 ? (by > 0 ? 0 : all.length - 1) : Math.min(Math.max(now + by, 0), all.length - 1);
    all[to].querySelector('a').focus();
    all[to].scrollIntoView({ block: 'nearest' });
  };

  const search = () => {
    const field = document.querySelector('[data-search]');
    if (field) {
      field.focus();
      field.select();
    } else {
      location.assign('/dead-letters#find');
    }
  };

  const commands = {
    '/': search,
    '?': () => help()?.showModal(),
    j: () => step(1),
    k: () => step(-1),
    g: () => { goAt = performance.now(); },
  };

  const onKey = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target) || help()?.open) {
      return;
    }
    const going = performance.now() - goAt < patience && places[event.key];
    goAt = -Infinity;
    const command = going ? () => location.assign(going) : commands[event.key];
    if (command) {
      event.preventDefault();
      command();
    }
  };

  // A swap can take away what had the focus, such as the button that stops a run which has
  // just ended; the keyboard then goes on from what came.
  let held = '';
  const noteFocus = ({ detail: { target } }) => {
    held = target.contains(document.activeElement) ? target.id : '';
  };
  const keepFocus = () => {
    if (held && document.activeElement === document.body) {
      document.querySelector(`#${held} [data-focus]`)?.focus();
    }
    held = '';
  };

  // Screen readers hear of a region that was there before its text; what a swap brings in is
  // read out through that one, where it says something new.
  const announce = () => {
    const news = document.querySelector('main [data-announce]')?.textContent ?? '';
    const said = document.getElementById('said');
    if (said.textContent !== news) {
      said.textContent = news;
    }
  };

  // What htmx cannot show is opened as a page: a login that has ended, an error. A search
  // that cannot be read, such as a time half typed, says so in its results.
  const openPage = (event) => {
    const { xhr, target, requestConfig } = event.detail;
    const path = xhr.responseURL && new URL(xhr.responseURL).pathname;
    if (xhr.status >= 400 && target.id && xhr.responseText.includes(`id="${target.id}"`)) {
      event.detail.shouldSwap = true;
    } else if (path === '/login' || (xhr.status >= 400 && requestConfig?.verb === 'get')) {
      event.preventDefault();
      location.assign(xhr.responseURL || location.href);
    }
  };

  document.addEventListener('keydown', onKey);
  document.addEventListener('DOMContentLoaded', () => {
    document.body.addEventListener('htmx:beforeSwap', noteFocus);
    document.body.addEventListener('htmx:afterSettle', keepFocus);
    document.body.addEventListener('htmx:afterSettle', announce);
    document.body.addEventListener('htmx:beforeSwap', openPage);
    if (location.hash === '#find') { // no element has that id, which would take the focus
      search();
    }
  });
  document.addEventListener('click', (event) => {
    if (event.target.closest('[data-keys]')) {
      help()?.showModal();
    }
  });
})();
