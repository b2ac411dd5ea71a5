// Scrolls through the frames of a preview. The worker writes them as one animated WebP; here it is taken apart (RIFF,
// chunks ANMF of the WebP container) and drawn frame by frame, so that no server work and no further request is needed.

const text = (bytes, at) => String.fromCharCode(...bytes.subarray(at, at + 4));
const uint24 = (view, at) => view.getUint16(at, true) | (view.getUint8(at + 2) << 16);

function* chunks(bytes, view, from, end) {
  for (let at = from; at + 8 <= end;) {
    const size = view.getUint32(at + 4, true);
    yield { name: text(bytes, at), at: at + 8, size };
    at += 8 + size + (size & 1);
  }
}

/** A still picture in a container of its own; one with transparency needs the header that says so. */
function still(bytes, view, frame) {
  const inner = [...chunks(bytes, view, frame.at + 16, frame.at + frame.size)];
  const hasAlpha = inner.some((one) => one.name === "ALPH");
  const content = bytes.subarray(frame.at + 16, frame.at + frame.size);
  const extended = hasAlpha ? 18 : 0;
  const header = new Uint8Array(12 + extended);
  const write = (word, at) => [...word].forEach((letter, index) => { header[at + index] = letter.charCodeAt(0); });
  const out = new DataView(header.buffer);
  write("RIFF", 0);
  out.setUint32(4, 4 + extended + content.length, true);
  write("WEBP", 8);
  if (hasAlpha) {
    write("VP8X", 12);
    out.setUint32(16, 10, true);
    header[20] = 0x10;
    header.set(bytes.subarray(frame.at + 6, frame.at + 12), 24);
  }
  return new Blob([header, content], { type: "image/webp" });
}

/** The frames of an animated WebP, each as a whole picture. */
async function framesOf(url) {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`status ${answer.status}`);
  const buffer = await answer.arrayBuffer();
  const bytes = new Uint8Array(buffer);
  const view = new DataView(buffer);
  const all = [...chunks(bytes, view, 12, bytes.length)];
  const size = all.find((one) => one.name === "VP8X");
  const found = all.filter((one) => one.name === "ANMF");
  if (!size || !found.length) throw new Error("no animation");
  const canvas = document.createElement("canvas");
  canvas.width = uint24(view, size.at + 4) + 1;
  canvas.height = uint24(view, size.at + 7) + 1;
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  const pictures = [];
  for (const frame of found) {
    const [x, y] = [2 * uint24(view, frame.at), 2 * uint24(view, frame.at + 3)];
    const [width, height] = [uint24(view, frame.at + 6) + 1, uint24(view, frame.at + 9) + 1];
    const flags = view.getUint8(frame.at + 15);
    if (flags & 2) pen.clearRect(x, y, width, height); // not blended with what lies below
    const part = await createImageBitmap(still(bytes, view, frame));
    pen.drawImage(part, x, y);
    part.close();
    pictures.push(await createImageBitmap(canvas));
    if (flags & 1) pen.clearRect(x, y, width, height); // disposed of after it was shown
  }
  return { pictures, pauseMs: uint24(view, found[0].at + 12) };
}

class Viewer {
  constructor(figure) {
    this.figure = figure;
    this.stage = figure.querySelector(".stage");
    this.canvas = figure.querySelector("canvas");
    this.range = figure.querySelector("input[type=range]");
    this.output = figure.querySelector("output");
    this.button = figure.querySelector(".play");
    this.vessels = figure.querySelector(".show-vessels");
    this.timer = null;
  }

  async open() {
    const { run, runPlain, slices, slicesPlain } = this.figure.dataset;
    const [over, under] = run ? [run, runPlain] : [slices, slicesPlain];
    if (!over) return;
    const [marked, plain] = await Promise.all([framesOf(over), under ? framesOf(under) : null]);
    this.marked = marked.pictures;
    this.plain = plain?.pictures ?? null;
    this.pauseMs = marked.pauseMs;
    this.range.max = this.marked.length;
    this.range.value = Math.ceil(this.marked.length / 2);
    this.canvas.width = this.marked[0].width;
    this.canvas.height = this.marked[0].height;
    this.figure.querySelector(".scroll").hidden = false;
    for (const picture of this.stage.querySelectorAll("img")) picture.hidden = true;
    this.canvas.hidden = false;
    this.range.addEventListener("input", () => { this.stop(); this.draw(); });
    this.vessels.addEventListener("change", () => this.draw());
    this.button.addEventListener("click", () => (this.timer ? this.stop() : this.play()));
    this.stage.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.stop();
      this.step(Math.sign(event.deltaY), false);
    }, { passive: false });
    this.draw();
    this.figure.dataset.ready = this.marked.length;
  }

  draw() {
    const index = Number(this.range.value) - 1;
    const shown = this.vessels.checked || !this.plain ? this.marked : this.plain;
    this.canvas.getContext("2d").drawImage(shown[index], 0, 0);
    this.output.textContent = `${index + 1} / ${this.marked.length}`;
  }

  step(by, around) {
    const count = this.marked.length;
    const next = Number(this.range.value) - 1 + by;
    this.range.value = 1 + (around ? (next + count) % count : Math.min(count - 1, Math.max(0, next)));
    this.draw();
  }

  play() {
    this.timer = setInterval(() => this.step(1, true), this.pauseMs);
    this.say("pause");
  }

  stop() {
    clearInterval(this.timer);
    this.timer = null;
    this.say("play");
  }

  say(word) {
    this.button.setAttribute("aria-label", this.button.dataset[word]);
    this.button.querySelector("use").setAttribute("href", `/static/icons.svg#${word}`);
  }
}

const seen = new WeakSet();
const near = new IntersectionObserver((entries) => {
  for (const { target } of entries.filter((entry) => entry.isIntersecting)) {
    near.unobserve(target);
    new Viewer(target).open().catch(() => {}); // the still picture stays
  }
}, { rootMargin: "200px" });

function find() {
  for (const figure of document.querySelectorAll(".viewer")) {
    if (seen.has(figure)) continue;
    seen.add(figure);
    near.observe(figure);
  }
}

document.addEventListener("vesselq:changed", find);
find();
