// Puts the page together: what is pressed, dropped and typed.

import * as api from "./api.js";
import { Choices } from "./choices.js";
import { Desk } from "./desk.js";
import { Gallery } from "./gallery.js";
import { listen } from "./gestures.js";
import { $, bytes, copy, remembered, toast } from "./ui.js";
import { Viewer } from "./viewer.js";

const SIZE = { least: 2, most: 240 };

let tool = "brush";

function setTool(name) {
  tool = name;
  for (const other of ["brush", "eraser", "hand"]) $(`tool-${other}`).setAttribute("aria-pressed", String(other === name));
}

/** The slider is finer for small brushes. */
function brushSize() {
  const share = Number($("size").value) / 100;
  return SIZE.least * (SIZE.most / SIZE.least) ** share;
}

function showSize() {
  $("size-value").textContent = `${Math.round(brushSize())} px`;
  remembered.set("size", Number($("size").value));
}

function changeSize(by) {
  $("size").value = Number($("size").value) + by;
  showSize();
}

function showTheme() {
  const other = document.documentElement.dataset.theme === "dark" ? "Light theme" : "Dark theme";
  $("theme").setAttribute("aria-label", other);
  $("theme").title = other;
}

function changeTheme() {
  const theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem("photomend.theme", theme);
  } catch {
    // It lasts as long as the page.
  }
  showTheme();
}

/** Asks for the token until the server takes one. */
async function knock() {
  for (;;) {
    try {
      return await api.about();
    } catch (error) {
      if (error.status !== 401) throw error;
      const dialog = $("token-dialog");
      $("token-wrong").hidden = !api.hasToken();
      dialog.showModal();
      await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
      api.setToken($("token").value.trim());
    }
  }
}

async function start() {
  showTheme();
  $("theme").addEventListener("click", changeTheme);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", showTheme);
  let about;
  try {
    about = await knock();
  } catch (error) {
    document.body.dataset.desk = "closed";
    toast(error.message, { isError: true, action: { label: "Try again", run: () => location.reload() } });
    return;
  }
  const { engine, limits } = about;
  $("version").textContent = `photomend ${engine.version}`;
  $("limits").textContent =
    `Up to ${bytes(limits.upload_bytes)} and ${Math.round(limits.pixels / 1e6)} megapixels a picture; deleted ` +
    `${limits.keep_hours >= 48 ? `${Math.round(limits.keep_hours / 24)} days` : `${+limits.keep_hours.toFixed(1)} hours`} after last use.`;

  // 1. the parts
  const parts = Object.fromEntries(["stage", "before", "after", "overlay", "divider", "brush"].map((id) => [id, $(id)]));
  let desk = null;
  const viewer = new Viewer(parts, () => {
    $("zoom-value").textContent = viewer.width ? `${Math.round(viewer.zoom * 100)} %` : "";
    desk?.sharpen();
  });
  const gallery = new Gallery(
    {
      open: (info) => desk.open(info),
      closed: () => desk.close(),
      changed: () => {
        document.body.dataset.pictures = gallery.items.size ? "some" : "none";
        const open = gallery.infos.filter((info) => !info.jobs.some((job) => job.state === "done"));
        $("restore-all").hidden = gallery.infos.length < 2 || open.length === 0;
      },
    },
    limits,
  );
  const choices = new Choices(about, () => desk.tellSoon());
  desk = new Desk(viewer, choices, gallery);
  listen(viewer, {
    tool: () => tool,
    size: brushSize,
    drawn: () => desk.edited(),
  });

  // 2. pictures in
  const pick = (kind) => $(kind).click();
  for (const button of document.querySelectorAll("[data-pick]")) button.addEventListener("click", () => pick(button.dataset.pick));
  $("files").addEventListener("change", () => {
    gallery.add([...$("files").files]);
    $("files").value = "";
  });
  $("mask-file").addEventListener("change", () => {
    const [file] = $("mask-file").files;
    if (file && desk.info) desk.importMask(file);
    $("mask-file").value = "";
  });
  let depth = 0;
  const isFiles = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragenter", (event) => {
    if (!isFiles(event)) return;
    depth++;
    document.body.dataset.drop = "over";
  });
  addEventListener("dragleave", (event) => {
    if (isFiles(event) && --depth <= 0) delete document.body.dataset.drop;
  });
  addEventListener("dragover", (event) => isFiles(event) && event.preventDefault());
  addEventListener("drop", (event) => {
    if (!isFiles(event)) return;
    event.preventDefault();
    depth = 0;
    delete document.body.dataset.drop;
    gallery.add([...event.dataTransfer.files]);
  });
  addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (files.length) gallery.add(files);
  });

  // 3. buttons
  const press = (id, run) => $(id).addEventListener("click", run);
  press("tool-brush", () => setTool("brush"));
  press("tool-eraser", () => setTool("eraser"));
  press("tool-hand", () => setTool("hand"));
  press("undo", () => desk.undo());
  press("redo", () => desk.redo());
  press("as-found", () => desk.asFound());
  press("clear", () => desk.clear());
  press("export-mask", () => desk.mask && desk.exportMask());
  press("mode-mask", () => desk.setMode("mask"));
  press("mode-compare", () => desk.setMode("compare"));
  press("restore", () => desk.restore());
  press("cancel", () => desk.cancel());
  press("result-original", () => desk.download("result"));
  press("result-png", () => desk.download("result?format=png"));
  press("result-sheet", () => desk.download("comparison"));
  press("zoom-in", () => viewer.zoomBy(1.5));
  press("zoom-out", () => viewer.zoomBy(1 / 1.5));
  press("zoom-fit", () => viewer.fit());
  press("zoom-actual", () => viewer.toActualSize());
  press("help-open", () => $("help").showModal());
  press("copy-command", async () => {
    await copy($("command").textContent);
    toast("The command line is on the clipboard.");
  });
  press("restore-all", async () => {
    for (const info of gallery.infos) {
      if (info.jobs.some((job) => job.state !== "failed" && job.state !== "cancelled")) continue;
      try {
        const status = await api.submit(info.id, choices.body(info.mask_revision ? "own" : "detected", 50));
        info.jobs.push(status);
        if (info === desk.info) desk.follow(status);
        else api.watch(status.id, (next) => {
          info.jobs[info.jobs.findIndex((job) => job.id === next.id)] = next;
          gallery.mark(info.id);
        }, new AbortController().signal);
      } catch (error) {
        toast(error.message, { isError: true });
        break;
      }
    }
    gallery.events.changed();
  });
  const peek = (shows) => {
    viewer.showsMask = shows;
    $("show-mask").setAttribute("aria-pressed", String(shows));
    viewer.draw();
  };
  press("show-mask", () => peek(!viewer.showsMask));
  $("size").value = remembered.get("size", 50);
  $("size").addEventListener("input", showSize);
  showSize();
  $("sensitivity").addEventListener("input", () => {
    desk.showSensitivity();
    desk.tellSoon();
    desk.findSoon();
  });

  // 4. keys
  const keys = {
    b: () => setTool("brush"),
    e: () => setTool("eraser"),
    h: () => setTool("hand"),
    "[": () => changeSize(-4),
    "]": () => changeSize(4),
    m: () => desk.setMode("mask"),
    c: () => $("mode-compare").disabled || desk.setMode("compare"),
    o: () => peek(!viewer.showsMask),
    "+": () => viewer.zoomBy(1.5),
    "=": () => viewer.zoomBy(1.5),
    "-": () => viewer.zoomBy(1 / 1.5),
    0: () => viewer.fit(),
    1: () => viewer.toActualSize(),
    r: () => desk.restore(),
    d: () => desk.download("result"),
    n: () => gallery.step(1),
    p: () => gallery.step(-1),
    u: () => $("files").click(),
    "?": () => $("help").showModal(),
  };
  addEventListener("keydown", (event) => {
    const { target } = event;
    const writes = target.matches("textarea, select, input:not([type=range])");
    if (document.querySelector("dialog[open]") || writes || event.altKey) return;
    const key = event.key.toLowerCase();
    if (event.ctrlKey || event.metaKey) {
      if (key === "z") {
        event.preventDefault();
        if (event.shiftKey) desk.redo();
        else desk.undo();
      } else if (key === "y") {
        event.preventDefault();
        desk.redo();
      }
      return;
    }
    if (keys[key] && (desk.info || key === "u" || key === "?")) {
      event.preventDefault();
      keys[key]();
    }
  });

  // 5. what was here before
  document.body.dataset.ready = "true";
  try {
    await gallery.load();
    const infos = gallery.infos;
    const last = infos.find(({ id }) => id === remembered.get("open", "")) ?? infos.at(-1);
    if (last) gallery.open(last.id);
  } catch (error) {
    toast(error.message, { isError: true });
  }
  addEventListener("pagehide", () => {
    remembered.set("open", gallery.current);
    if (desk.saveSoon.pending) desk.save();
  });
}

start();
