// Plays the videos of one query in step. The longest one leads; the others run a little
// faster or slower until they are level with it, because seeking would make them jump.
class Player {
  constructor(videos, changed) {
    this.videos = videos;
    this.changed = changed;
    this.playing = false;
    this.timer = 0;
  }

  get usable() {
    return this.videos.filter(video => !video.error && video.duration > 0);
  }

  get leader() {
    return this.usable.reduce((one, two) => (two.duration > one.duration ? two : one), this.usable[0]);
  }

  async play() {
    if (this.playing) return;
    this.playing = true;
    this.changed();
    await Promise.all(this.videos.map(ready));
    if (!this.playing) return;
    if (!this.leader) return this.pause();
    const at = this.leader.currentTime;
    await this.start(at < this.leader.duration - .05 ? at : 0);
    if (!this.playing) return;
    clearInterval(this.timer);
    this.timer = setInterval(() => this.step(), 40);
  }

  async start(at) {
    this.starting = true;
    await Promise.all(this.usable.map(video => moved(video, at)));
    if (this.playing) {
      await Promise.all(this.usable.map(video => video.play().catch(() => {})));
    }
    this.starting = false;
  }

  pause() {
    this.playing = false;
    clearInterval(this.timer);
    for (const video of this.videos) video.pause();
    this.changed();
  }

  seek(fraction) {
    if (!this.leader) return;
    const at = fraction * this.leader.duration;
    for (const video of this.usable) video.currentTime = Math.min(at, video.duration);
  }

  step() {
    const leader = this.leader;
    if (!leader || this.starting) return;
    if (leader.ended) return void this.start(0);
    for (const video of this.usable) {
      if (video === leader || video.seeking) continue;
      const behind = Math.min(leader.currentTime, video.duration) - video.currentTime;
      if (video.ended && behind >= -.05) continue;
      if (Math.abs(behind) > .3) {
        video.currentTime += behind;
        video.play().catch(() => {});
      }
      video.playbackRate = Math.abs(behind) < .03 ? 1 : 1 + Math.max(-.4, Math.min(.4, 2 * behind));
    }
    this.changed();
  }
}

// Resolves when a video can be played, or cannot be read.
function ready(video) {
  if (video.readyState >= 3 || video.error) return Promise.resolve();
  return new Promise(done => {
    for (const name of ["canplay", "error", "emptied"]) video.addEventListener(name, done, { once: true });
    setTimeout(done, 5000);
  });
}

// Resolves when a video shows the given time.
function moved(video, at) {
  const time = Math.min(at, video.duration);
  video.playbackRate = 1;
  if (Math.abs(video.currentTime - time) < .01) return Promise.resolve();
  return new Promise(done => {
    video.addEventListener("seeked", done, { once: true });
    setTimeout(done, 1000);
    video.currentTime = time;
  });
}
