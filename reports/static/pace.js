"use strict";
// How many edges are drawn while the hand moves: as many as this machine draws fluently, found out as it goes.
(() => {
  const FIRST = 600, LEAST = 100;
  // Milliseconds from one frame to the next: below the one there is room for more, above the other it stutters.
  const ROOM = 20, LATE = 28;

  class Pace {
    constructor() { Object.assign(this, { budget: FIRST, ranked: [] }); }

    /** `edges` are those on show; the lower its number, the stronger an edge. */
    over(edges) { this.ranked = [...edges].sort((a, b) => a - b); }

    /** Whether there are more edges than a moving frame draws. */
    get short() { return this.ranked.length > this.budget; }

    /** The strongest edges, as many as a moving frame draws. */
    get strongest() { return this.ranked.slice(0, this.budget); }

    /** Learns from the time until the frame after this one, which began at `start`. */
    learn(start) {
      requestAnimationFrame((next) => {
        const factor = next - start > LATE ? 0.7 : next - start < ROOM ? 1.15 : 1;
        this.budget = Math.round(Math.max(LEAST, Math.min(Math.max(this.ranked.length, FIRST), this.budget * factor)));
      });
    }
  }
  window.attribPace = Pace;
})();
