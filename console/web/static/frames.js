// Scrolls through the frames of a preview. The worker writes them as JPEG pictures one after the other in one file
// (worker/pictures/frame_strip.py), so that one request brings all of them.

const USUAL_PAUSE_MS = 100;
const decoder = new TextDecoder();

/** Where each picture begins and ends: EOI (FFD9) right before the next SOI (FFD8) or the end of the file. */
function* parts(bytes) {
  let begin = 0;
  for (let at = 2; at <= bytes.length; at++) {
    if (bytes[at - 2] !== 0xff || bytes[at - 1] !== 0xd9) continue;
    if (at < bytes.length && (bytes[at] !== 0xff || bytes[at + 1] !== 0xd8)) continue;
    yield bytes.subarray(begin, at);
    begin = at;
  }
}

/** What the comment (COM, FFFE) of a picture says, before its scan (SOS, FFDA). */
function comment(bytes) {
  for (let at = 2; at + 4 < bytes.length && bytes[at + 1] !== 0xda;) {
    const size = (bytes[at + 2] << 8) | bytes[at + 3];
    if (bytes[at + 1] === 0xfe) return decoder.decode(bytes.subarray(at + 4, at + 2 + size));
    at += 2 + size;
  }
  return "";
}

async function framesOf(url) {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`status ${answer.status}`);
  const found = [...parts(new Uint8Array(await answer.arrayBuffer()))];
  const decode = (part) => createImageBitmap(new Blob([part], { type: "image/jpeg" }));
  return { pictures: await Promise.all(found.map(decode)), pauseMs: Number(comment(found[0])) || USUAL_PAUSE_MS };
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
    const { frames, plain: under } = this.figure.dataset;
    if (!frames) return;
    const [marked, plain] = await Promise.all([framesOf(frames), under ? framesOf(under) : null]);
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
    this.vessels?.addEventListener("change", () => this.draw());
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
    const shown = this.vessels?.checked === false && this.plain ? this.plain : this.marked;
    this.canvas.getContext("2d").drawImage(shown[index], 0, 0, this.canvas.width, this.canvas.height);
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
