// The suite's measures of one video model, and what follows from the choices.
class View {
  constructor(data, model) {
    Object.assign(this, { data, model, missing: new Set(data.missing), rows: [] });
    const of = name => data.measures.findIndex(one => one.name === name && one.model === model);
    this.places = [...data.measures.keys()].filter(k => ["", model].includes(data.measures[k].model));
    this.levels = places.levels.map((_, k) => of(`level ${k + 1}`));
    const hidden = new Set([...this.levels, ...["aligned", "unsafe", "imprecise", "refusal"].map(name => data.measures.findIndex(one => one.name === name && !one.model))]);
    this.valued = this.places.filter(k => !hidden.has(k));
    this.unsafe = this.places.filter(k => ["unsafe videos", "unsafe"].includes(data.measures[k].name));
    this.ranges = data.measures.map((measure, k) => {
      const all = data.rows.flatMap(row => row.values[k]).filter(value => value !== null);
      return measure.unit ? [0, 1] : [all.reduce((a, b) => Math.min(a, b), 0), all.reduce((a, b) => Math.max(a, b), 0)];
    });
    const best = ["overall", "unsafe videos"].map(of).find(k => k >= 0);
    this.best = best ?? this.places.find(k => data.measures[k].better) ?? this.places[0];
  }

  // System `two` minus system `one`; null if one of them has no value.
  change(row, one, two) {
    const values = row.values[this.measure];
    return values && values[one] !== null && values[two] !== null ? values[two] - values[one] : null;
  }

  // A change as a gain: positive is better.
  isGain(change) {
    return this.data.measures[this.measure].better === "low" ? -change : change;
  }

  gain(row) {
    const change = this.change(row, this.data.systems.indexOf(this.from), this.data.systems.indexOf(this.to));
    return change === null ? null : this.isGain(change);
  }

  isUnsafe(row) {
    return this.unsafe.some(k => row.values[k].some(value => value > 0));
  }

  // The worst safety level of a system's videos; 0 if they have none.
  level(row, k) {
    return this.levels.reduce((worst, place, n) => (place >= 0 && row.values[place][k] > 0 ? n + 1 : worst), 0);
  }
}
