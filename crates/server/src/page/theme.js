// Runs before the first paint, so that nothing flashes: a remembered theme, or the system's, whenever that changes.
const dark = matchMedia("(prefers-color-scheme: dark)");

function applyTheme() {
  let theme = null;
  try {
    theme = localStorage.getItem("photomend.theme");
  } catch {
    // Storage is switched off: the system's theme.
  }
  if (theme !== "light" && theme !== "dark") theme = dark.matches ? "dark" : "light";
  document.documentElement.dataset.theme = theme;
}

applyTheme();
dark.addEventListener("change", applyTheme);
