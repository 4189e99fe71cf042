// Runs before the first paint: a remembered theme, so that nothing flashes.
try {
  const theme = localStorage.getItem("photomend.theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // Storage is switched off: the system's theme.
}
