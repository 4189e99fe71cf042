// Fingers, pens, mouse, wheel and keys on the stage.

/** Steps of the keyboard, in CSS pixels. */
const KEY_STEP = 60;

/**
 * Listens on the viewer's stage.
 *
 * @param tools `tool()` ("brush", "eraser" or "hand"), `size()` of the brush in CSS pixels, and whom to tell of
 *   a stroke that has ended: `drawn()`
 */
export function listen(viewer, tools) {
  const { stage, divider } = viewer;
  const pointers = new Map();
  let gesture = null;
  let holdsSpace = false;

  const place = (event) => {
    const box = stage.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  const draws = () => viewer.mode === "mask" && viewer.mask && tools.tool() !== "hand" && !holdsSpace;
  const isNearDivider = (x) =>
    viewer.mode === "compare" && !divider.hidden && Math.abs(x - viewer.split * stage.clientWidth) < 28;

  const showBrush = (event) => {
    const [x, y] = place(event);
    viewer.setBrush(x, y, tools.size(), draws() && event.pointerType !== "touch");
    stage.dataset.cursor = draws() ? "none" : isNearDivider(x) ? "split" : gesture ? "grabbing" : "grab";
  };

  const drawTo = (x, y) => {
    const [x1, y1] = viewer.toPicture(x, y);
    const [x0, y0] = gesture.last ?? [x1, y1];
    viewer.mask.line(x0, y0, x1, y1, tools.size() / 2 / viewer.scale);
    gesture.last = [x1, y1];
    viewer.draw();
  };

  const pinch = () => {
    const [[x0, y0], [x1, y1]] = [...pointers.values()];
    return { x: (x0 + x1) / 2, y: (y0 + y1) / 2, distance: Math.hypot(x1 - x0, y1 - y0) || 1 };
  };

  stage.addEventListener("pointerdown", (event) => {
    if (!viewer.width || event.button > 1 || event.target.closest("button")) return;
    stage.setPointerCapture(event.pointerId);
    const [x, y] = place(event);
    pointers.set(event.pointerId, [x, y]);
    if (pointers.size === 2) {
      // The first finger did not mean to draw.
      if (gesture?.kind === "draw") viewer.mask.cancelStroke();
      gesture = { kind: "pinch", ...pinch() };
      viewer.draw();
    } else if (pointers.size === 1) {
      if (isNearDivider(x)) {
        gesture = { kind: "split" };
      } else if (draws() && event.button === 0) {
        gesture = { kind: "draw", last: null };
        viewer.mask.beginStroke(tools.tool() === "eraser");
        drawTo(x, y);
      } else {
        gesture = { kind: "move" };
      }
    }
    showBrush(event);
  });

  stage.addEventListener("pointermove", (event) => {
    showBrush(event);
    const before = pointers.get(event.pointerId);
    if (!before || !gesture) return;
    const [x, y] = place(event);
    pointers.set(event.pointerId, [x, y]);
    if (gesture.kind === "pinch" && pointers.size >= 2) {
      const next = pinch();
      viewer.move(next.x - gesture.x, next.y - gesture.y);
      viewer.zoomBy(next.distance / gesture.distance, next.x, next.y);
      Object.assign(gesture, next);
    } else if (gesture.kind === "split") {
      viewer.setSplit(x / stage.clientWidth);
    } else if (gesture.kind === "draw") {
      for (const part of event.getCoalescedEvents?.() ?? [event]) drawTo(...place(part));
    } else if (gesture.kind === "move") {
      viewer.move(x - before[0], y - before[1]);
    }
  });

  const up = (event) => {
    if (!pointers.delete(event.pointerId)) return;
    if (gesture?.kind === "draw") {
      viewer.mask.endStroke();
      tools.drawn();
    }
    if (pointers.size === 0) gesture = null;
    else if (gesture?.kind === "pinch") gesture = { kind: "move" };
    showBrush(event);
  };
  stage.addEventListener("pointerup", up);
  stage.addEventListener("pointercancel", up);
  stage.addEventListener("pointerleave", () => viewer.setBrush(0, 0, 0, false));

  stage.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      const unit = event.deltaMode === 1 ? 16 : 1;
      const speed = event.ctrlKey ? 0.01 : 0.002;
      viewer.zoomBy(Math.exp(-event.deltaY * unit * speed), ...place(event));
    },
    { passive: false },
  );

  stage.addEventListener("dblclick", (event) => {
    if (draws()) return;
    if (viewer.isFitted) viewer.toActualSize(...place(event));
    else viewer.fit();
  });

  divider.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -0.02, ArrowRight: 0.02, PageDown: -0.1, PageUp: 0.1, Home: -1, End: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    viewer.setSplit(viewer.split + step);
  });

  stage.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    if (moves && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      viewer.move(moves[0] * KEY_STEP, moves[1] * KEY_STEP);
    }
    if (event.key === " " && event.target === stage) {
      event.preventDefault();
      holdsSpace = true;
      stage.dataset.cursor = "grab";
      viewer.setBrush(0, 0, 0, false);
    }
  });
  addEventListener("keyup", (event) => {
    if (event.key === " ") holdsSpace = false;
  });
  addEventListener("blur", () => (holdsSpace = false));
}
