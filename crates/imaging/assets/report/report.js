"use strict";
// The line between before and after.
for (const box of document.querySelectorAll(".compare")) {
  const range = box.querySelector("input");
  const move = () => box.style.setProperty("--at", range.value + "%");
  range.addEventListener("input", move);
  move();
}
// Which picture lies right of the line.
for (const figure of document.querySelectorAll(".exhibit")) {
  const images = figure.querySelectorAll(".after");
  const buttons = figure.querySelectorAll("button");
  buttons.forEach((button, chosen) => button.addEventListener("click", () => {
    buttons.forEach((other, i) => other.setAttribute("aria-pressed", String(i === chosen)));
    images.forEach((image, i) => { image.hidden = i !== chosen; });
  }));
}
// Sorting by a click on a heading, or Enter.
for (const table of document.querySelectorAll(".sortable")) {
  const headings = [...table.tHead.rows[0].cells];
  const value = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.v === undefined ? cell.textContent : Number(cell.dataset.v);
  };
  headings.forEach((heading, column) => {
    heading.tabIndex = 0;
    const sort = () => {
      const first = heading.classList.contains("n") ? "descending" : "ascending";
      const second = first === "ascending" ? "descending" : "ascending";
      const order = heading.getAttribute("aria-sort") === first ? second : first;
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      const rows = [...table.tBodies[0].rows];
      rows.sort((a, b) => {
        const [x, y] = [value(a, column), value(b, column)];
        return sign * (typeof x === "number" ? x - y : x.localeCompare(y, undefined, { numeric: true }));
      });
      table.tBodies[0].append(...rows);
    };
    heading.addEventListener("click", sort);
    heading.addEventListener("keydown", (event) => { if (event.key === "Enter") sort(); });
  });
}
// The filter over the names.
const filter = document.getElementById("filter");
if (filter) {
  filter.addEventListener("input", () => {
    const wanted = filter.value.toLowerCase();
    for (const row of document.querySelector(".sortable").tBodies[0].rows) {
      row.hidden = !row.textContent.toLowerCase().includes(wanted);
    }
  });
}
// Light or dark, beside the system's own choice.
document.getElementById("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
});
