"""Pre-images of momentum shapes, patch by patch: the compiled part of `table.py`.

Its first docstring has the geometry, the image and the idea of the search.
"""

import math

import numpy as np

from ..kernels.compiled import compiled

# Of degrees 5 to 11 at one error, the highest took the fewest explosions by far (the map is
# analytic): 7 needs five times as many cells for 1e-8. Above, the power basis loses digits.
DEGREE = 11
ROW = 4 * (DEGREE + 1)
BINS = 128
SLOTS = 32  #: pre-images of one event at most; 10 were seen, of H between two I
_OUTSIDE = 1.05  #: roots are accepted so far outside a patch, to leave no gaps
_SETTLED = 1e-6  #: steps, in patches, whose square is rounding: the last of an iteration
_BEYOND = 1.15  #: curves are followed so far
_PLAIN = 0.7  #: change of the Jacobian, relative, on a plain patch
_NARROW = 0.35  #: the same of the one slope that matters on the other patches
# Largest half widths, in cells, of patches with a curve: as measured, of 1/2 to 1/16, the
# fastest. Smaller ones are hit in vain less often, and more of them are hit.
_CLIMBED, _FOLLOWED = 0.25, 0.125
_FOLDED = 0.1  #: ratio of determinants on a patch below which it may have a fold


@compiled
def image(images, jacobi, momenta, masses):
    """Write Kendall's point and the weighted Jacobi vectors of every event."""
    m0, m1, m2 = masses[0], masses[1], masses[2]
    pair = m0 + m1
    first, second = math.sqrt(m0 * m1 / pair), math.sqrt(m2 * pair / (pair + m2))
    for i in range(len(momenta)):
        p, a = momenta[i], jacobi[i]
        for k in range(3):
            a[0, k] = first * (p[1, k] / m1 - p[0, k] / m0)
            a[1, k] = second * (p[2, k] / m2 - (p[0, k] + p[1, k]) / pair)
        aa = a[0, 0] ** 2 + a[0, 1] ** 2 + a[0, 2] ** 2
        bb = a[1, 0] ** 2 + a[1, 1] ** 2 + a[1, 2] ** 2
        ab = a[0, 0] * a[1, 0] + a[0, 1] * a[1, 1] + a[0, 2] * a[1, 2]
        x = a[0, 1] * a[1, 2] - a[0, 2] * a[1, 1]
        y = a[0, 2] * a[1, 0] - a[0, 0] * a[1, 2]
        z = a[0, 0] * a[1, 1] - a[0, 1] * a[1, 0]
        images[i, 0] = (aa - bb) / (aa + bb)
        images[i, 1] = 2 * ab / (aa + bb)
        images[i, 2] = 2 * math.sqrt(x * x + y * y + z * z) / (aa + bb)


@compiled
def _polynomials(c, u, v, out, row, slope):
    """Write the four numbers and their derivatives by u and v into out (3, 4)."""
    for j in range(ROW):
        row[j], slope[j] = c[DEGREE, j], 0.0
    for k in range(DEGREE - 1, -1, -1):
        for j in range(ROW):
            slope[j] = slope[j] * v + row[j]
            row[j] = row[j] * v + c[k, j]
    for i in range(4):
        out[0, i], out[1, i], out[2, i] = row[4 * DEGREE + i], 0.0, slope[4 * DEGREE + i]
    for k in range(DEGREE - 1, -1, -1):
        for i in range(4):
            out[1, i] = out[1, i] * u + out[0, i]
            out[0, i] = out[0, i] * u + row[4 * k + i]
            out[2, i] = out[2, i] * u + slope[4 * k + i]


@compiled
def _shape(c, patch, u, v, out, s, row, slope):
    """Write the image and its derivatives by the patch's own u and v into s (3, 3)."""
    _polynomials(c, patch[0] + patch[1] * u, patch[2] + patch[3] * v, out, row, slope)
    a, b, x, y = out[0, 0], out[0, 1], out[0, 2], out[0, 3]
    s[0, 0] = a * a + b * b - x * x - y * y
    s[0, 1] = 2 * (a * x + b * y)
    s[0, 2] = 2 * (a * y - b * x)
    for k in range(1, 3):
        h = 2 * patch[2 * k - 1]
        da, db, dx, dy = h * out[k, 0], h * out[k, 1], h * out[k, 2], h * out[k, 3]
        s[k, 0] = a * da + b * db - x * dx - y * dy
        s[k, 1] = a * dx + da * x + b * dy + db * y
        s[k, 2] = a * dy + da * y - b * dx - db * x


@compiled
def classify(
    kinds, centres, frames, bends, bounds, boxes, parents, patches, coefficients, last
):
    """Say of every patch how it is searched, or in which direction it is to be halved."""
    out, row, slope = np.empty((3, 4)), np.empty(ROW), np.empty(ROW)
    size = 7
    grid = np.empty((size, size, 3, 3))
    jacobian, plane = np.empty((2, 2)), np.empty((2, size * size))
    for n in range(len(parents)):
        c, patch = coefficients[parents[n]], patches[n]
        for i in range(size):
            for j in range(size):
                u = _OUTSIDE * (2 * i / (size - 1) - 1)
                v = _OUTSIDE * (2 * j / (size - 1) - 1)
                _shape(c, patch, u, v, out, grid[i, j], row, slope)
        middle = grid[size // 2, size // 2]
        centre = middle[0] / math.sqrt((middle[0] ** 2).sum())
        centres[n] = middle[0]

        # a basis of the plane of the image about the centre: of greatest and least stretching
        uu, vv, uv = 0.0, 0.0, 0.0
        for k in range(3):
            uu += middle[1, k] ** 2
            vv += middle[2, k] ** 2
            uv += middle[1, k] * middle[2, k]
        turn = 0.5 * math.atan2(2 * uv, uu - vv)
        cos, sin = math.cos(turn), math.sin(turn)
        e = cos * middle[1] + sin * middle[2]
        e -= (e * centre).sum() * centre
        e /= math.sqrt((e * e).sum())
        f = np.cross(centre, e)
        frame = frames[n]
        frame[0], frame[1] = e, f
        for i in range(2):
            for k in range(2):
                jacobian[i, k] = (frame[i] * middle[k + 1]).sum()
        # followed along the direction of least stretching, across that of the greatest
        along = 0 if abs(sin) > abs(cos) else 1
        across = 1 - along
        determinant = jacobian[0, 0] * jacobian[1, 1] - jacobian[0, 1] * jacobian[1, 0]
        plain, narrow, by_u, by_v = 0.0, 0.0, 0.0, 0.0
        least, most = 1e300, -1e300  # of the determinant, in units of that at the centre
        for i in range(size):
            for j in range(size):
                a, b = (frame[0] * grid[i, j, 1]).sum(), (frame[0] * grid[i, j, 2]).sum()
                x, y = (frame[1] * grid[i, j, 1]).sum(), (frame[1] * grid[i, j, 2]).sum()
                ratio = (a * y - b * x) / determinant
                least, most = min(least, ratio), max(most, ratio)
                a, b = a - jacobian[0, 0], b - jacobian[0, 1]
                x, y = x - jacobian[1, 0], y - jacobian[1, 1]
                p = abs(jacobian[1, 1] * a - jacobian[0, 1] * x)
                p += abs(jacobian[1, 1] * b - jacobian[0, 1] * y)
                q = abs(jacobian[0, 0] * x - jacobian[1, 0] * a)
                q += abs(jacobian[0, 0] * y - jacobian[1, 0] * b)
                plain = max(plain, p, q)
                if j == size // 2:
                    by_u = max(by_u, p, q)
                if i == size // 2:
                    by_v = max(by_v, p, q)
                narrow = max(narrow, abs(b if across else a))
        near = True  # the whole patch within 60 degrees of its centre
        for i in range(size):
            for j in range(size):
                near = near and (grid[i, j, 0] * centre).sum() > 0.5
        if near and plain < _PLAIN * abs(determinant):
            kinds[n] = 0
            a, b = jacobian[0, 0], jacobian[0, 1]
            x, y = jacobian[1, 0], jacobian[1, 1]
            frame[0] = (y * e - b * f) / determinant
            frame[1] = (a * f - x * e) / determinant
        elif last or (
            near
            and narrow < _NARROW * abs(jacobian[0, across])
            and max(patch[1], patch[3]) <= (_CLIMBED if least > _FOLDED * most else _FOLLOWED)
        ):
            kinds[n] = 1 + along if least > _FOLDED * most else 3 + along
        else:
            kinds[n] = 5 if by_u >= by_v else 6
        for k in range(3):
            low, high = grid[:, :, 0, k].min(), grid[:, :, 0, k].max()
            spare = 0.1 * (high - low) + 1e-7
            boxes[n, k, 0], boxes[n, k, 1] = low - spare, high + spare
        # The image of a patch near a fold is a thin crescent: its second coordinate is bounded
        # after a parabola in the first, the best on the grid, is taken off.
        for i in range(size):
            for j in range(size):
                for k in range(2):
                    plane[k, i * size + j] = (frame[k] * (grid[i, j, 0] - centres[n])).sum()
        first, second = plane[0], plane[1]
        line = first - first.mean()
        square = line * line
        square -= square.mean()
        square -= (square * line).sum() / (line * line).sum() * line
        c2 = (second * square).sum() / (square * square).sum()
        c1 = ((second - c2 * first * first) * line).sum() / (line * line).sum()
        bends[n, 0], bends[n, 1] = c1, c2
        second -= c1 * first + c2 * first * first
        for k in range(2):
            low, high = plane[k].min(), plane[k].max()
            spare = 0.15 * (high - low) + (1e-7 if kinds[n] else 0.0)
            bounds[n, k, 0], bounds[n, k, 1] = low - spare, high + spare


@compiled
def _coordinates(s, frame, target, y):
    """Write the two image coordinates about the target and their derivatives into y (3, 2)."""
    for i in range(2):
        y[0, i] = (
            frame[i, 0] * (s[0, 0] - target[0])
            + frame[i, 1] * (s[0, 1] - target[1])
            + frame[i, 2] * (s[0, 2] - target[2])
        )
        for k in range(1, 3):
            y[k, i] = frame[i, 0] * s[k, 0] + frame[i, 1] * s[k, 1] + frame[i, 2] * s[k, 2]


@compiled
def _newton(c, patch, frame, target, u, v, out, s, y, row, slope):
    """Return the root on a plain patch, and whether there is one."""
    for _ in range(12):
        _shape(c, patch, u, v, out, s, row, slope)
        _coordinates(s, frame, target, y)
        determinant = y[1, 0] * y[2, 1] - y[1, 1] * y[2, 0]
        du = (y[0, 0] * y[2, 1] - y[0, 1] * y[2, 0]) / determinant
        dv = (y[0, 1] * y[1, 0] - y[0, 0] * y[1, 1]) / determinant
        u, v = u - du, v - dv
        if not (abs(u) < 1.5 and abs(v) < 1.5):
            return u, v, False
        if abs(du) + abs(dv) < _SETTLED:
            return u, v, True
    return u, v, False


@compiled
def _on_curve(c, patch, frame, target, along, w, z, out, s, y, row, slope):
    """Return z with the first coordinate zero at w, the second one, its slope, and success."""
    for _ in range(12):
        u, v = (w, z) if along == 0 else (z, w)
        _shape(c, patch, u, v, out, s, row, slope)
        _coordinates(s, frame, target, y)
        step = y[0, 0] / y[2 - along, 0]
        if not abs(z - step) < 2.5:
            break
        if abs(step) < _SETTLED:
            grow = y[1 + along, 1] - y[2 - along, 1] * y[1 + along, 0] / y[2 - along, 0]
            return z - step, y[0, 1] - y[2 - along, 1] * step, grow, True
        z -= step
    return 0.0, 0.0, 0.0, False


@compiled
def _climb(c, patch, frame, target, along, out, s, y, row, slope):
    """Return the root on a steep patch, and 1; 0 where it has none; -1 to follow the curve."""
    # The determinant has one sign on the patch alone: where the curve has been beyond its
    # rim, neither a root there nor the lack of one says that the patch has none.
    w, z, low, high, within = 0.0, 0.0, -_BEYOND, _BEYOND, True
    for _ in range(40):
        z, g, d, valid = _on_curve(c, patch, frame, target, along, w, z, out, s, y, row, slope)
        if not valid:  # the curve leaves the patch on the way
            return 0.0, 0.0, -1
        within = within and abs(z) <= _BEYOND
        step, tilt, before = -g / d, -y[1 + along, 0] / y[2 - along, 0], w
        if abs(step) < _SETTLED:
            w, z = w + step, z + step * tilt
            if not within and max(abs(w), abs(z)) > _OUTSIDE:
                return 0.0, 0.0, -1
            return (w, z, 1) if along == 0 else (z, w, 1)
        if step > 0:
            low = w
        else:
            high = w
        if high <= low:  # the root is beyond an end
            return 0.0, 0.0, 0 if within else -1
        w += step
        if w >= high:
            w = high if high == _BEYOND else 0.5 * (low + high)
        elif w <= low:
            w = low if low == -_BEYOND else 0.5 * (low + high)
        z += tilt * (w - before)
    return 0.0, 0.0, -1


@compiled
def _follow(c, patch, frame, target, along, touch, roots, out, s, y, row, slope):
    """Write all roots on a folded patch into roots (., 2); return their number."""
    points, found = 9, 0
    w0, z0, g0, d0, valid0, tilt0 = 0.0, 0.0, 0.0, 0.0, False, 0.0
    for i in range(points):
        w = _BEYOND * (2 * i / (points - 1) - 1)
        z, g, d, valid = _on_curve(
            c, patch, frame, target, along, w, z0 + tilt0 * (w - w0), out, s, y, row, slope
        )
        tilt = -y[1 + along, 0] / y[2 - along, 0] if valid else 0.0
        if valid and valid0:
            ends = 0  # brackets of a root: (w0, mid) and (mid, w), or (w0, w)
            mid, z_mid, g_mid = w, z, g
            if (g0 < 0) != (g < 0):
                ends = 1
            elif g0 * d0 < 0 and g * d > 0:  # an extremum towards zero
                # Where tangents meet, on the near side of zero by a margin, nothing can touch.
                meet = g0 + d0 * (g - g0 - d * (w - w0)) / (d0 - d)
                drop = max(abs(g0 - meet), abs(g - meet))
                ok = (meet < 0) != (g < 0) or abs(meet) < 0.2 * drop + touch
                low, high, d_low, d_high = w0, w, d0, d
                z_mid = z0
                for _ in range(60):  # of the false position, Illinois variant
                    if not ok:
                        break
                    mid = (low * d_high - high * d_low) / (d_high - d_low)
                    z_mid, g_mid, d_mid, ok = _on_curve(
                        c, patch, frame, target, along, mid, z_mid, out, s, y, row, slope
                    )
                    if (g_mid < 0) != (g < 0) or min(mid - low, high - mid) < _SETTLED:
                        break
                    if (d_mid < 0) == (d_low < 0):
                        low, d_low, d_high = mid, d_mid, 0.5 * d_high
                    else:
                        high, d_high, d_low = mid, d_mid, 0.5 * d_low
                if ok and (g_mid < 0) != (g < 0):
                    ends = 2
                elif ok and abs(g_mid) <= touch and found < SLOTS:
                    roots[found, 0], roots[found, 1] = mid, z_mid
                    found += 1
            for part in range(ends):
                low, high, g_low, z_in = w0, mid, g0, z0
                if part == 1:
                    low, high, g_low, z_in = mid, w, g_mid, z_mid
                x = 0.5 * (low + high)
                for _ in range(60):  # Newton's method, halving where it leaves the bracket
                    z_in, g_in, d_in, ok = _on_curve(
                        c, patch, frame, target, along, x, z_in, out, s, y, row, slope
                    )
                    if not ok:
                        break
                    if (g_in < 0) == (g_low < 0):
                        low = x
                    else:
                        high = x
                    step = -g_in / d_in
                    if abs(step) < _SETTLED:
                        x, z_in = x + step, z_in - step * y[1 + along, 0] / y[2 - along, 0]
                        break
                    x += step
                    if not low <= x <= high:
                        x = 0.5 * (low + high)
                        if high - low < _SETTLED**2:
                            break
                if ok and found < SLOTS:
                    roots[found, 0], roots[found, 1] = x, z_in
                    found += 1
        w0, z0, g0, d0, valid0, tilt0 = w, z, g, d, valid, tilt
    if along == 1:
        for i in range(found):
            roots[i, 0], roots[i, 1] = roots[i, 1], roots[i, 0]
    return found


@compiled
def _in_chart(chart, other, t, angle):
    """Return t and the angle of a shape of one chart in another."""
    if chart == other:
        return t, angle
    r = math.exp(t)
    # corners v, s and o of the one chart, as complex numbers
    corners = (0j, complex(r * math.cos(angle), -r * math.sin(angle)), 1 + 0j)
    v = corners[(other - chart) % 3]
    s = corners[(other + 1 - chart) % 3] - v
    o = corners[(other + 2 - chart) % 3] - v
    q = s * o.conjugate()
    return math.log(abs(s) / abs(o)), abs(math.atan2(q.imag, q.real))


@compiled
def _keep(shapes, found, cell, chart, t, angle, sign):
    """Add a shape to those of its event, unless it is there already; return their number."""
    for i in range(found):
        a, b = _in_chart(chart, int(shapes[i, 0]), t, angle)
        distance = max(abs(a - shapes[i, 1]), abs(b - shapes[i, 2]))
        # two solutions that merge at a fold have determinants of opposite sign
        if distance < (1e-4 if shapes[i, 4] * sign > 0 else 1e-7):
            return found
    if found < SLOTS:
        shapes[found, 0], shapes[found, 1], shapes[found, 2] = chart, t, angle
        shapes[found, 3], shapes[found, 4] = cell, sign
    return found + 1


@compiled
def search(
    found,
    shapes,
    images,
    error,
    cells,
    coefficients,
    parents,
    patches,
    kinds,
    centres,
    frames,
    bends,
    bounds,
    bins,
    members,
):
    """Write all pre-images of every image: chart, t, angle, cell, sign of the determinant."""
    out, s, y = np.empty((3, 4)), np.empty((3, 3)), np.empty((3, 2))
    row, slope, roots = np.empty(ROW), np.empty(ROW), np.empty((SLOTS, 2))
    for n in range(len(images)):
        target = images[n]
        if not target[0] ** 2 + target[1] ** 2 + target[2] ** 2 > 0.5:
            continue  # not a number
        i = max(0, min(BINS - 1, int((target[0] + 1) * (BINS / 2))))
        j = max(0, min(BINS - 1, int((target[1] + 1) * (BINS / 2))))
        for at in range(bins[i * BINS + j], bins[i * BINS + j + 1]):
            k = members[at]
            centre, frame, bound = centres[k], frames[k], bounds[k]
            dx, dy = target[0] - centre[0], target[1] - centre[1]
            dz = target[2] - centre[2]
            a = frame[0, 0] * dx + frame[0, 1] * dy + frame[0, 2] * dz
            b = frame[1, 0] * dx + frame[1, 1] * dy + frame[1, 2] * dz
            bent = b - a * (bends[k, 0] + a * bends[k, 1])
            if a < bound[0, 0] or a > bound[0, 1] or bent < bound[1, 0] or bent > bound[1, 1]:
                continue
            if dx * dx + dy * dy + dz * dz > 1.0:
                continue  # on the far side of the sphere
            cell, patch = parents[k], patches[k]
            c = coefficients[cell]
            along = (kinds[k] - 1) % 2
            if kinds[k] == 0:
                u, v, good = _newton(c, patch, frame, target, a, b, out, s, y, row, slope)
                number = 1 if good else 0
            elif kinds[k] < 3:
                u, v, number = _climb(c, patch, frame, target, along, out, s, y, row, slope)
            else:
                u, v, number = 0.0, 0.0, -1
            roots[0, 0], roots[0, 1] = u, v
            if number < 0:
                number = _follow(
                    c, patch, frame, target, along, 2 * error, roots, out, s, y, row, slope
                )
            for r in range(number):
                u, v = roots[r, 0], roots[r, 1]
                if abs(u) > _OUTSIDE or abs(v) > _OUTSIDE:
                    continue
                _shape(c, patch, u, v, out, s, row, slope)
                distance = 0.0
                for i in range(3):
                    distance = max(distance, abs(s[0, i] - target[i]))
                if distance > 1e-6:
                    continue
                sign = s[0, 0] * (s[1, 1] * s[2, 2] - s[1, 2] * s[2, 1])
                sign += s[0, 1] * (s[1, 2] * s[2, 0] - s[1, 0] * s[2, 2])
                sign += s[0, 2] * (s[1, 0] * s[2, 1] - s[1, 1] * s[2, 0])
                u, v = patch[0] + patch[1] * u, patch[2] + patch[3] * v
                t = cells[cell, 1] + cells[cell, 2] * u
                angle = cells[cell, 3] + cells[cell, 4] * v
                angle = min(max(angle, 0.0), math.pi)
                side = math.exp(t)
                third = (1 - side) ** 2 + 2 * side * (1 - math.cos(angle))
                if side * side > 1.002 * min(1.0, third):
                    continue  # the next chart has it
                found[n] = _keep(
                    shapes[n], found[n], cell, int(cells[cell, 0]), t, angle, sign
                )


@compiled
def geometries(positions, event, shapes, cells, coefficients, jacobi, masses, charges):
    """Write the positions of all shapes, of the size and orientation of their momenta."""
    out, row, slope = np.empty((3, 4)), np.empty(ROW), np.empty(ROW)
    e, f, spare = np.empty(3), np.empty(3), np.empty(3)
    for n in range(len(event)):
        cell = int(shapes[n, 3])
        chart, t, angle = int(shapes[n, 0]), shapes[n, 1], shapes[n, 2]
        v, s, o = chart, (chart + 1) % 3, (chart + 2) % 3
        r = math.exp(t)
        # the momenta in a plane of their own, in which the second Jacobi vector is on the left
        a, b = jacobi[event[n], 0], jacobi[event[n], 1]
        aa, bb = (a * a).sum(), (b * b).sum()
        e[:] = a if aa > bb else b
        e /= math.sqrt((e * e).sum())
        spare[:] = b if aa > bb else -a
        spare -= (spare * e).sum() * e
        if (spare * spare).sum() < 1e-24 * (aa + bb):  # collinear: any plane will do
            least = np.argmin(np.abs(e))
            spare[:] = 0.0
            spare[least] = 1.0
            spare -= (spare * e).sum() * e
        f[:] = spare / math.sqrt((spare * spare).sum())
        # the rotation from those of the table
        _polynomials(
            coefficients[cell],
            (t - cells[cell, 1]) / cells[cell, 2],
            (angle - cells[cell, 3]) / cells[cell, 4],
            out,
            row,
            slope,
        )
        turn = complex(out[0, 0], -out[0, 1]) * complex((a * e).sum(), (a * f).sum())
        turn += complex(out[0, 2], -out[0, 3]) * complex((b * e).sum(), (b * f).sum())
        turn /= abs(turn)
        third = math.sqrt((1 - r) ** 2 + 4 * r * math.sin(angle / 2) ** 2)
        energy = charges[v] * (charges[s] / r + charges[o]) + charges[s] * charges[o] / third
        size = energy / (0.5 * (aa + bb))
        pair, other = size * r * turn * complex(math.cos(angle), -math.sin(angle)), size * turn
        middle = (masses[s] * pair + masses[o] * other) / (masses[0] + masses[1] + masses[2])
        x = positions[n]
        for k in range(3):
            x[v, k] = -middle.real * e[k] - middle.imag * f[k]
            x[s, k] = (pair - middle).real * e[k] + (pair - middle).imag * f[k]
            x[o, k] = (other - middle).real * e[k] + (other - middle).imag * f[k]
