// Chooses the colours before anything is drawn: this script blocks the head, so that no
// page flashes in the wrong theme. Without a choice the system's one holds.
'use strict';
(() => {
  const root = document.documentElement;
  const key = 'meterworker-theme';
  const next = { auto: 'light', light: 'dark', dark: 'auto' };

  // Storage can be denied; then a choice lasts as long as the page.
  let chosen = 'auto';
  try {
    chosen = localStorage.getItem(key) || 'auto';
  } catch { /* as above */ }

  const apply = (theme) => {
    chosen = next[theme] ? theme : 'auto';
    if (chosen === 'auto') {
      delete root.dataset.theme;
    } else {
      root.dataset.theme = chosen;
    }
    for (const button of document.querySelectorAll('[data-theme-toggle]')) {
      button.textContent = `Theme: ${chosen}`;
      button.hidden = false;
    }
    document.dispatchEvent(new Event('themechange'));
  };

  const choose = (theme) => {
    apply(theme);
    try {
      localStorage.setItem(key, chosen);
    } catch { /* as above */ }
  };

  root.classList.add('js'); // what only works with scripts shows itself
  apply(chosen);
  document.addEventListener('DOMContentLoaded', () => apply(chosen));
  document.addEventListener('click', (event) => {
    if (event.target.closest('[data-theme-toggle]')) {
      choose(next[chosen]);
    }
  });
  addEventListener('storage', (event) => {
    if (event.key === key) {
      apply(event.newValue || 'auto'); // another tab chose
    }
  });
})();
