"use strict";
// Where things are on the graph's canvas: columns of tokens without gaps, layers upwards, zoom and pan.
(() => {
  const LEFT = 74, RIGHT = 22, TOP = 20, FOOT = 112;

  class View {
    constructor(canvas) {
      this.canvas = canvas;
      this.measure();
      this.reset();
    }

    /** Sizes in CSS pixels; kept, as asking the page for them thousands of times a frame is slow. Hidden, it keeps those it had. */
    measure() {
      const { clientWidth: width, clientHeight: height } = this.canvas;
      this.visible = width > 0 && height > 0;
      if (this.visible || this.width === undefined) Object.assign(this, { width, height });
    }

    reset() { Object.assign(this, { zoomX: 1, zoomY: 1, moveX: 0, moveY: 0 }); }

    /** Lays out the tokens that `used` holds, in order; a wider step where tokens between were left out. */
    layout(positions, used, blocks) {
      this.measure();
      this.blocks = blocks;
      this.order = [...used].sort((a, b) => a - b);
      this.at = new Map();
      this.gaps = [];
      let x = 0;
      this.order.forEach((column, index) => {
        if (index > 0) {
          const skipped = positions[column] - positions[this.order[index - 1]] - 1;
          x += skipped > 0 ? 1.5 : 1;
          if (skipped > 0) this.gaps.push([x - 0.75, skipped]);
        }
        this.at.set(column, x);
      });
      this.extent = Math.max(x, 1);
    }

    get step() { return (this.plotWidth / (this.extent + 1)) * this.zoomX; }
    get plotWidth() { return this.width - LEFT - RIGHT; }
    get plotHeight() { return this.height - TOP - FOOT; }
    get floor() { return this.height - FOOT; }
    get left() { return LEFT; }

    unitX(units) { return LEFT + (units + 0.5) * this.step + this.moveX; }
    x(column) { return this.unitX(this.at.get(column)); }
    y(layer) { return TOP + this.plotHeight - ((layer + 1) / this.blocks) * this.plotHeight * this.zoomY + this.moveY; }
    layerAt(y) { return ((TOP + this.plotHeight + this.moveY - y) / (this.plotHeight * this.zoomY)) * this.blocks - 1; }

    zoom(factor, x, y, vertical) {
      if (vertical) {
        const zoomed = Math.max(1, Math.min(40, this.zoomY * factor));
        this.moveY = (this.moveY + TOP + this.plotHeight - y) * (zoomed / this.zoomY) + y - TOP - this.plotHeight;
        this.zoomY = zoomed;
      } else {
        const most = Math.max(8, (this.extent + 1) / 4);
        const zoomed = Math.max(1, Math.min(most, this.zoomX * factor));
        this.moveX = (this.moveX + LEFT - x) * (zoomed / this.zoomX) + x - LEFT;
        this.zoomX = zoomed;
      }
      this.clamp();
    }

    pan(x, y) {
      this.moveX += x;
      this.moveY += y;
      this.clamp();
    }

    clamp() {
      this.moveX = Math.min(0, Math.max(this.plotWidth * (1 - this.zoomX), this.moveX));
      this.moveY = Math.max(0, Math.min(this.plotHeight * (this.zoomY - 1), this.moveY));
    }

    /** Moves the node into sight, if it is not. */
    reveal(column, layer) {
      const [x, y] = [this.x(column), this.y(layer)];
      if (x < LEFT + 10 || x > this.width - RIGHT) this.moveX += this.width / 2 - x;
      if (y < TOP || y > this.floor) this.moveY += this.height / 2 - y;
      this.clamp();
    }
  }
  window.attribView = View;
})();
