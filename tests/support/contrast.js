// The visible texts whose contrast is below WCAG's AA: 4.5, or 3 for large ones (24 px, or 18.66 px in bold).
(() => {
  document.getAnimations().forEach(animation => animation.finish());  // colours that are still fading
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const rgba = color => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, below) => [0, 1, 2].map(i => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
  const linear = v => v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4;
  const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const found = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const text = texts.currentNode.data.trim(), element = texts.currentNode.parentElement;
    const style = getComputedStyle(element), box = element.getBoundingClientRect();
    const visible = element.checkVisibility({opacityProperty: true, visibilityProperty: true});
    if (!text || !visible || !box.width || !box.height) continue;
    const layers = [];
    let opacity = 1;
    for (let e = element; e; e = e.parentElement) {
      layers.unshift(rgba(getComputedStyle(e).backgroundColor));
      opacity *= getComputedStyle(e).opacity;
    }
    const behind = layers.reduce((below, top) => over(top, below), [255, 255, 255, 1]);
    const ink = rgba(style.color);
    const [low, high] = [luminance(behind), luminance(over([...ink.slice(0, 3), ink[3] * opacity], behind))]
      .sort((a, b) => a - b);
    const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    const ratio = (high + 0.05) / (low + 0.05);
    if (ratio < (large ? 3 : 4.5)) found.push(`${ratio.toFixed(2)} ${element.className}: ${text.slice(0, 40)}`);
  }
  return found;
})()
