"""Small linear algebra for each of many events, compiled: no library, no temporary array."""

import math

import numpy as np

from .kernels.compiled import compiled

#: what is left of a direction beside others, relative, so that it counts as one of its own
_INDEPENDENT = 1e-7


@compiled
def orthonormalize(vectors, images, ranks):
    """Make the rows of `vectors` orthonormal in place, `images` going along linearly.

    Rows that depend on those before them are dropped: the others move up, zeros follow.
    """
    for n in range(vectors.shape[0]):
        rows, along = vectors[n], images[n]
        rank = 0
        for k in range(rows.shape[0]):
            whole = dot(rows[k], rows[k])
            if k > rank:
                rows[rank], along[rank] = rows[k], along[k]
            for _ in range(2):
                for j in range(rank):
                    part = dot(rows[rank], rows[j])
                    add(rows[rank], -part, rows[j])
                    add(along[rank], -part, along[j])
            left = dot(rows[rank], rows[rank])
            if left > _INDEPENDENT * _INDEPENDENT * whole:
                scale(rows[rank], 1.0 / np.sqrt(left))
                scale(along[rank], 1.0 / np.sqrt(left))
                rank += 1
        rows[rank:] = 0.0
        along[rank:] = 0.0
        ranks[n] = rank


@compiled
def complement(known, out):
    """Write orthonormal rows to `out` (n, rows, size) that are orthogonal to those of `known`.

    They are made of the unit vectors that lie in what is left most of all, one by one. Rows of
    `known` are orthonormal, or zero.
    """
    inside = np.empty(known.shape[2])
    for n in range(known.shape[0]):
        inside[:] = 0.0
        for k in range(known.shape[1]):
            for i in range(inside.size):
                inside[i] += known[n, k, i] ** 2
        for c in range(out.shape[1]):
            v = out[n, c]
            v[:] = 0.0
            v[inside.argmin()] = 1.0
            for _ in range(2):
                for k in range(known.shape[1]):
                    add(v, -dot(v, known[n, k]), known[n, k])
                for k in range(c):
                    add(v, -dot(v, out[n, k]), out[n, k])
            scale(v, 1.0 / np.sqrt(dot(v, v)))
            for i in range(inside.size):
                inside[i] += v[i] ** 2


#: events that stand side by side while matrices of many are split or put together
_ABREAST = 32


@compiled
def split(given, basis, lower, ranks):
    """Make rows orthonormal, for many events abreast: ``given = lower @ basis`` in each.

    `given` and `basis` are (rows, size, n), `lower` (rows, rows, n). A row that depends on
    those before it becomes zero.
    """
    rows, size, count = given.shape
    v, c = np.empty((rows, size, _ABREAST)), np.empty((rows, rows, _ABREAST))
    part, whole = np.empty(_ABREAST), np.empty(_ABREAST)
    for first in range(0, count, _ABREAST):
        gather(given, first, v)
        c[:] = 0.0
        for k in range(rows):
            dots(v[k], v[k], whole)
            for _ in range(2):
                for j in range(k):
                    remove(v[k], v[j], part)
                    for e in range(_ABREAST):
                        c[k, j, e] += part[e]
            dots(v[k], v[k], part)
            for e in range(_ABREAST):
                free = part[e] > _INDEPENDENT * _INDEPENDENT * whole[e]
                c[k, k, e] = np.sqrt(part[e]) if free else 0.0
            for i in range(size):
                for e in range(_ABREAST):
                    v[k, i, e] = v[k, i, e] / c[k, k, e] if c[k, k, e] > 0.0 else 0.0
        scatter(v, first, basis)
        scatter(c, first, lower)
        for n in range(first, min(first + _ABREAST, count)):
            ranks[n] = 0
            for k in range(rows):
                ranks[n] += c[k, k, n - first] > 0.0


@compiled
def rest_of_space(basis, rest):
    """Do what `complement` does for many events abreast: (rows, size, n) of each array."""
    rows, size, count = basis.shape
    v = np.empty((rows + rest.shape[0], size, _ABREAST))
    inside, part = np.empty((size, _ABREAST)), np.empty(_ABREAST)
    for first in range(0, count, _ABREAST):
        gather(basis, first, v[:rows])
        inside[:] = 0.0
        for k in range(rows):
            for i in range(size):
                for e in range(_ABREAST):
                    inside[i, e] += v[k, i, e] ** 2
        for k in range(rows, v.shape[0]):
            v[k] = 0.0
            for e in range(_ABREAST):
                v[k, inside[:, e].argmin(), e] = 1.0
            for _ in range(2):
                for j in range(k):
                    remove(v[k], v[j], part)
            dots(v[k], v[k], part)
            for i in range(size):
                for e in range(_ABREAST):
                    v[k, i, e] /= np.sqrt(part[e])
                    inside[i, e] += v[k, i, e] ** 2
        scatter(v[rows:], first, rest)


@compiled
def put_together(images, lower, basis, changes, rest, units, places, out):
    """Write to `out` (places, outputs, size) what maps the rows given to `split` to `images`.

    And the rows of `rest` to `changes` (n, rows, outputs); over the `units` (size, n).
    """
    rows, outputs, count = images.shape
    free, size, _ = rest.shape
    y, c = np.empty((rows + free, outputs, _ABREAST)), np.empty((rows, rows, _ABREAST))
    v = np.empty((rows + free, size, _ABREAST))
    total = np.empty(_ABREAST)
    for first in range(0, count, _ABREAST):
        gather(images, first, y[:rows])
        gather(lower, first, c)
        gather(basis, first, v[:rows])
        gather(rest, first, v[rows:])
        for n in range(first, min(first + _ABREAST, count)):
            for k in range(free):
                for a in range(outputs):
                    y[rows + k, a, n - first] = changes[n, k, a]
        for k in range(rows):
            for a in range(outputs):
                for j in range(k):
                    for e in range(_ABREAST):
                        y[k, a, e] -= c[k, j, e] * y[j, a, e]
                for e in range(_ABREAST):
                    y[k, a, e] = y[k, a, e] / c[k, k, e] if c[k, k, e] > 0.0 else 0.0
        for a in range(outputs):
            for b in range(size):
                total[:] = 0.0
                for k in range(rows + free):
                    for e in range(_ABREAST):
                        total[e] += y[k, a, e] * v[k, b, e]
                for n in range(first, min(first + _ABREAST, count)):
                    out[places[n], a, b] = total[n - first] / units[b, n]


@compiled
def gather(many, first, few):
    """Copy events from `first` on; places behind the last one get it again."""
    last = many.shape[2] - 1
    for k in range(few.shape[0]):
        for i in range(few.shape[1]):
            for e in range(_ABREAST):
                few[k, i, e] = many[k, i, min(first + e, last)]


@compiled
def scatter(few, first, many):
    """Copy events back to where `gather` found them."""
    here = min(_ABREAST, many.shape[2] - first)
    for k in range(few.shape[0]):
        for i in range(few.shape[1]):
            for e in range(here):
                many[k, i, first + e] = few[k, i, e]


@compiled
def dots(a, b, out):
    """Write the scalar products of (size, events abreast)."""
    for e in range(_ABREAST):
        out[e] = 0.0
    for i in range(a.shape[0]):
        for e in range(_ABREAST):
            out[e] += a[i, e] * b[i, e]


@compiled
def remove(a, b, part):
    """Take from `a` what lies along the unit vectors `b`; write to `part` how much."""
    dots(a, b, part)
    for i in range(a.shape[0]):
        for e in range(_ABREAST):
            a[i, e] -= part[e] * b[i, e]


@compiled
def dot(a, b):
    """Return the scalar product."""
    total = 0.0
    for i in range(a.size):
        total += a[i] * b[i]
    return total


@compiled
def add(a, factor, b):
    """Add `factor` times `b` to `a`, in place."""
    for i in range(a.size):
        a[i] += factor * b[i]


@compiled
def scale(a, factor):
    """Multiply `a` by `factor`, in place."""
    for i in range(a.size):
        a[i] *= factor


@compiled
def solve_positive(matrix, vector):
    """Replace `vector` by the solution for a symmetric positive matrix; destroy the matrix.

    By Cholesky's decomposition; returns false, and no solution, where there is none.
    """
    size = vector.size
    for i in range(size):
        for j in range(i + 1):
            total = matrix[i, j]
            for k in range(j):
                total -= matrix[i, k] * matrix[j, k]
            if i > j:
                matrix[i, j] = total / matrix[j, j]
            elif total > 0.0:
                matrix[i, i] = math.sqrt(total)
            else:
                return False
    for i in range(size):
        for k in range(i):
            vector[i] -= matrix[i, k] * vector[k]
        vector[i] /= matrix[i, i]
    for i in range(size - 1, -1, -1):
        for k in range(i + 1, size):
            vector[i] -= matrix[k, i] * vector[k]
        vector[i] /= matrix[i, i]
    return True


@compiled
def best_rotation(moving, fixed, rotation):
    """Write the proper rotation R that minimizes the sum of |R moving_i - fixed_i|**2.

    As in `frames.kabsch`, without centring: the quaternion is the eigenvector of the largest
    eigenvalue of Horn's matrix, here by Jacobi's rotations.
    """
    s = np.zeros((3, 3))
    for i in range(moving.shape[0]):
        for a in range(3):
            for b in range(3):
                s[a, b] += moving[i, a] * fixed[i, b]
    h, v = np.empty((4, 4)), np.eye(4)
    h[0, 0] = s[0, 0] + s[1, 1] + s[2, 2]
    h[0, 1] = h[1, 0] = s[1, 2] - s[2, 1]
    h[0, 2] = h[2, 0] = s[2, 0] - s[0, 2]
    h[0, 3] = h[3, 0] = s[0, 1] - s[1, 0]
    for a in range(3):
        for b in range(3):
            h[1 + a, 1 + b] = s[a, b] + s[b, a]
        h[1 + a, 1 + a] = 2.0 * s[a, a] - h[0, 0]
    size = 0.0
    for a in range(4):
        for b in range(4):
            size += h[a, b] ** 2
    for _ in range(12):
        off = 0.0
        for a in range(3):
            for b in range(a + 1, 4):
                off += h[a, b] ** 2
                _jacobi(h, v, a, b)
        if off <= 1e-32 * size:
            break
    best = 0
    for a in range(1, 4):
        if h[a, a] > h[best, best]:
            best = a
    w, x, y, z = v[0, best], v[1, best], v[2, best], v[3, best]
    rotation[0, 0] = w * w + x * x - y * y - z * z
    rotation[1, 1] = w * w - x * x + y * y - z * z
    rotation[2, 2] = w * w - x * x - y * y + z * z
    rotation[0, 1], rotation[1, 0] = 2 * (x * y - w * z), 2 * (x * y + w * z)
    rotation[0, 2], rotation[2, 0] = 2 * (x * z + w * y), 2 * (x * z - w * y)
    rotation[1, 2], rotation[2, 1] = 2 * (y * z - w * x), 2 * (y * z + w * x)
    _turn_about_the_line(moving, fixed, rotation)


@compiled
def _turn_about_the_line(moving, fixed, rotation):
    """Improve a rotation about the line along which the `fixed` vectors are the longest.

    Of points near a line the eigenvector knows this angle to the rounding over their distance
    from it squared; the parts across the line know it to the rounding over the distance.
    """
    longest = 0
    for i in range(1, fixed.shape[0]):
        if dot(fixed[i], fixed[i]) > dot(fixed[longest], fixed[longest]):
            longest = i
    n, a, b = fixed[longest].copy(), np.empty(3), np.empty(3)
    for _ in range(2):  # the share across the line falls by its square, each time
        a[:] = 0.0
        for i in range(fixed.shape[0]):
            add(a, dot(fixed[i], n), fixed[i])
        length = math.sqrt(dot(a, a))
        if length == 0.0:
            return
        n[:] = a / length
    cosine, sine = 0.0, 0.0
    for i in range(fixed.shape[0]):
        for k in range(3):
            a[k], b[k] = dot(rotation[k], moving[i]), fixed[i, k]
        add(a, -dot(a, n), n)
        add(b, -dot(b, n), n)
        cosine += dot(a, b)
        for k in range(3):
            one, two = (k + 1) % 3, (k + 2) % 3
            sine += n[k] * (a[one] * b[two] - a[two] * b[one])
    size = math.hypot(cosine, sine)
    if size == 0.0:
        return
    cosine, sine = cosine / size, sine / size
    for column in range(3):
        for k in range(3):
            a[k] = rotation[k, column]
        along = (1.0 - cosine) * dot(a, n)
        for k in range(3):
            one, two = (k + 1) % 3, (k + 2) % 3
            across = n[one] * a[two] - n[two] * a[one]
            rotation[k, column] = cosine * a[k] + sine * across + along * n[k]


@compiled
def _jacobi(h, v, a, b):
    """Turn the matrix `h` so that its element (a, b) vanishes; `v` turns along."""
    if h[a, b] == 0.0:
        return
    slope = (h[b, b] - h[a, a]) / (2.0 * h[a, b])
    t = math.copysign(1.0, slope) / (abs(slope) + math.sqrt(1.0 + slope * slope))
    c = 1.0 / math.sqrt(1.0 + t * t)
    s = t * c
    for k in range(h.shape[0]):
        p, q = h[k, a], h[k, b]
        h[k, a], h[k, b] = c * p - s * q, s * p + c * q
    for k in range(h.shape[0]):
        p, q = h[a, k], h[b, k]
        h[a, k], h[b, k] = c * p - s * q, s * p + c * q
    for k in range(v.shape[0]):
        p, q = v[k, a], v[k, b]
        v[k, a], v[k, b] = c * p - s * q, s * p + c * q
