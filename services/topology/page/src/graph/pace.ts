// When what came from the stream is drawn: at the next frame after a quiet time; while changes keep
// coming, only once the page has been smooth again for some time. A picture of a thousand nodes
// takes a tenth of a second where there is no graphics card, and Cytoscape follows it up with finer
// ones: a fixed rate would be too slow for small graphs, or leave nothing for the reader's own clicks.
// While the reader moves the picture himself, what is new waits for him.

const SMOOTH_MS = 33;
// So many smooth frames for each long one that a picture took, so that of a hundred frames four are long.
const SMOOTH_FRAMES = 24;
const LEAST_FRAMES = 5;
const LONGEST_REST_MS = 1_500;

export class Pace {
  private isAsked = false;
  private isResting = false;
  private isEnded = false;

  // `isHeld`: whether the reader moves the picture right now.
  constructor(private readonly draw: () => void, private readonly isHeld: () => boolean) {}

  end(): void {
    this.isEnded = true;
  }

  ask(): void {
    if (this.isAsked || this.isEnded) return;
    this.isAsked = true;
    if (this.isResting) return;
    this.isResting = true;
    // For nothing but the reader.
    this.rest(performance.now(), performance.now(), -Infinity);
  }

  private picture(): void {
    if (this.isEnded) return;
    this.isAsked = false;
    this.draw();
    this.rest(performance.now(), performance.now(), LEAST_FRAMES);
  }

  // `left`: smooth frames that are still waited for.
  private rest(began: number, last: number, left: number): void {
    requestAnimationFrame(() => {
      const now = performance.now();
      const more = now - last <= SMOOTH_MS ? left - 1 : left + SMOOTH_FRAMES;
      if ((more > 0 || this.isHeld()) && now - began < LONGEST_REST_MS) this.rest(began, now, more);
      else if (this.isAsked) this.picture();
      else this.isResting = false;
    });
  }
}
