// When what came from the stream is drawn: at the next frame after a quiet time; while changes keep
// coming, only once the page has been smooth again for some frames. A picture of a thousand nodes
// takes a tenth of a second where there is no graphics card, and Cytoscape follows it up with finer
// ones: a fixed rate would be too slow for small graphs, or leave nothing for the reader's own clicks.

const SMOOTH_MS = 25;
const SMOOTH_FRAMES = 5;
const LONGEST_REST_MS = 1_000;

export class Pace {
  constructor(draw) {
    this.draw = draw;
    this.isAsked = false;
    this.isResting = false;
    this.isEnded = false;
  }

  end() {
    this.isEnded = true;
  }

  ask() {
    if (this.isAsked || this.isEnded) return;
    this.isAsked = true;
    if (!this.isResting) requestAnimationFrame(() => this.picture());
  }

  picture() {
    if (this.isEnded) return;
    this.isAsked = false;
    this.isResting = true;
    this.draw();
    this.rest(performance.now(), performance.now(), 0);
  }

  rest(began, last, smooth) {
    requestAnimationFrame(() => {
      const now = performance.now();
      const more = now - last < SMOOTH_MS ? smooth + 1 : 0;
      if (more < SMOOTH_FRAMES && now - began < LONGEST_REST_MS) this.rest(began, now, more);
      else if (this.isAsked) this.picture();
      else this.isResting = false;
    });
  }
}
