"""How the weights of ``face-parts`` were made. ``python -m segmodels.faces.train --help`` does it again.

::

    pictures  →  labelling (teacher, mesh, labels)  →  fit (augment)  →  export  →  score

=============  ====================================================================================
recipe         every choice: generators, seeds, model, steps; what the teacher is and its hashes
pictures       samples of the generators, drawn by ``ganatomy generators draw``
teacher        face landmarks and the person's outline, by two networks of MediaPipe
mesh           which landmarks go round which part
labels         landmarks and outline to a label map; skin, hair and body by colour
labelling      whole folders of pictures
augment        disturbing pictures and their labels
fit            the training loop
export         the folder that ``segmodels.load`` opens
score          agreement with the teacher on held-out seeds
=============  ====================================================================================

Needs LiteRT: ``pip install -e '.[train]'``. Nothing here is needed to use the segmenter.
"""
