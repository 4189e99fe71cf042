// How pictures are restored: the closed panel, remembered on this device.

import { $, element, remembered } from "./ui.js";

const KEY = "choices";

export class Choices {
  /** Fills the panel with what the server offers. */
  constructor({ engine, mask }, changed) {
    this.engine = engine;
    this.mask = mask;
    this.changed = changed;
    this.kept = remembered.get(KEY, {});
    const methods = $("method");
    for (const { name, label } of engine.methods) methods.append(element("option", { value: name }, label));
    for (const { name, weight } of engine.loras) $("loras").append(this.lora(name, weight));
    $("lora-group").hidden = engine.loras.length === 0;
    this.fields = ["method", "grow", "feather", "prompt", "negative_prompt", "steps", "strength", "guidance", "seed"];
    this.show();
    for (const name of this.fields) $(name).addEventListener("input", () => this.read());
    $("loras").addEventListener("input", () => this.read());
    $("reset-choices").addEventListener("click", () => {
      this.kept = {};
      remembered.set(KEY, {});
      this.show();
      this.changed();
    });
  }

  get defaults() {
    const { method, prompt, negative_prompt, steps, strength, guidance, seed } = this.engine;
    return { method, ...this.mask, prompt, negative_prompt, steps, strength: strength ?? "", guidance, seed };
  }

  lora(name, weight) {
    const id = `lora-${name}`;
    return element(
      "div",
      { class: "field row" },
      element("label", { for: id }, name),
      element("input", { id, type: "number", min: -4, max: 4, step: 0.05, value: weight, "data-lora": name, "data-own": weight }),
    );
  }

  show() {
    const shown = { ...this.defaults, ...this.kept };
    if (!this.engine.methods.some(({ name }) => name === shown.method)) shown.method = this.engine.method;
    for (const name of this.fields) $(name).value = shown[name];
    for (const field of $("loras").querySelectorAll("input")) {
      field.value = this.kept.loras?.[field.dataset.lora] ?? field.dataset.own;
    }
    this.showModel();
  }

  /** Hides what does not matter to the method. */
  showModel() {
    const method = this.engine.methods.find(({ name }) => name === $("method").value);
    $("model-choices").hidden = !method?.is_model;
  }

  read() {
    const { defaults } = this;
    this.kept = {};
    for (const name of this.fields) {
      const field = $(name);
      if (!field.checkValidity() || (field.type === "number" && field.value === "" && name !== "strength")) continue;
      const value = field.type === "number" && field.value !== "" ? field.valueAsNumber : field.value;
      if (value !== defaults[name]) this.kept[name] = value;
    }
    for (const field of $("loras").querySelectorAll("input")) {
      if (!field.checkValidity() || field.value === "" || field.value === field.dataset.own) continue;
      this.kept.loras = { ...this.kept.loras, [field.dataset.lora]: field.valueAsNumber };
    }
    remembered.set(KEY, this.kept);
    this.showModel();
    this.changed();
  }

  /** What the API takes, for a mask and a sensitivity. */
  body(mask, sensitivity) {
    const { loras, strength, ...others } = this.kept;
    const body = { mask, ...others };
    if (mask === "detected") body.sensitivity = sensitivity;
    if (strength) body.strength = strength;
    if (body.method && !this.engine.methods.some(({ name }) => name === body.method)) delete body.method;
    if (loras) {
      body.loras = this.engine.loras.map(({ name, weight }) => ({ name, weight: loras[name] ?? weight }));
    }
    return body;
  }
}
